"""The demo: one real archive goes the whole way, from a browser's upload to a checked download.

    make demo                  with a .7z that is made of this machine's files
    make demo FILE=mod.rar     with a file of yours
    make demo STORAGE=s3       with an object store, and hosts that share nothing but that and Redis

Both services run as they do in production, with their state in memory, and an nginx gives them one address. Of their
surroundings only the Manager and the Access service are stand-ins. At the end the console is there to try.
Ctrl-C ends everything that the demo started.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import NoReturn

import httpx

from open_workshop_storage.client import Downloads, Moved, Progress, StorageError, Transfer
from open_workshop_storage.core.settings import Settings, SettingsError, load_settings
from tests.support.configs import Secrets, cheap_hash
from tests.support.contents import ITSELF, contents_of
from tests.support.manager import StandIn, stand_in
from tests.support.nginx import nginx_site, site_for
from tests.support.object_store import running_object_store, settings_of
from tests.support.processes import descendants, kill
from tests.support.progress_lines import ProgressLines
from tests.support.servers import PROJECT, Server, StartFailed, free_port, granian, redis_server
from tests.support.transfer_links import transfer_links

DISTRIBUTOR_PORT, LOADER_PORT = 8000, 8001
"""Used if nothing else listens there."""
MOD_ID = 999_999_999
"""No mod of a real workshop, in case the configuration is that of one."""
SOURCE_BYTES = 50_000_000
BATCH_BYTES = 60_000_000
LOG_LINES_SHOWN = 20
BAR_OF_STAGE = {"uploading": "Upload", "uploaded": "Upload", "extracting": "Extraction", "repacking": "Repacking"}


class DemoFailed(Exception):
    """The demo cannot go on; the text says why."""


def main() -> int:
    """Run the demo and return its exit status."""
    arguments = argparse.ArgumentParser(prog="make demo", description="One transfer from end to end.")
    arguments.add_argument("file", nargs="?", type=Path, help="the file to send; without it, one is made on the spot")
    arguments.add_argument("--storage", choices=["disk", "s3"], default="disk", help="where permanent files are kept")
    parsed = arguments.parse_args()
    file = parsed.file
    if file is not None and not file.is_file():
        print(f"There is no file {file}. Use: make demo FILE=path/to/an/archive", file=sys.stderr)
        return 2
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True, errors="replace")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop_once)
    try:
        with tempfile.TemporaryDirectory(prefix="open-workshop-demo-") as folder:
            run(file, Path(folder), in_bucket=parsed.storage == "s3")
    except KeyboardInterrupt:
        print("\nStopped.")
        return 0
    except (DemoFailed, SettingsError, StartFailed, StorageError) as failure:
        print(f"\nThe demo failed: {failure}", file=sys.stderr)
        return 1
    finally:
        # A signal may come when a process has been started but is not on record yet.
        kill(descendants(os.getpid()))


def stop_once(number: int, frame: FrameType | None) -> NoReturn:
    """Begin to stop; a second Ctrl-C must not cut short the ending of processes."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    raise KeyboardInterrupt


def run(file: Path | None, folder: Path, *, in_bucket: bool) -> NoReturn:
    """Do all steps, then serve until a signal comes.

    Raises:
        KeyboardInterrupt: It came.
        DemoFailed: A step did.
    """
    print("Open Workshop Storage: one transfer from end to end")
    manager_port = free_port()
    settings, secrets = configure(f"http://127.0.0.1:{manager_port}")
    source = find_source(file, folder)
    with ExitStack() as stack:
        print("\n3. Services")
        manager = stack.enter_context(stand_in(secrets, manager_port))
        print(f"   {'Manager':<11} {manager.url} (a stand-in, as the Access service is)")
        if in_bucket:
            settings = use_bucket(stack, folder)
        loader = stack.enter_context(service("loader", LOADER_PORT, folder))
        manager.loader_url = loader.url
        if in_bucket:
            # The Manager calls another host than browsers do.
            with host(folder, "other-loader"):
                manager.loader_url = stack.enter_context(service("loader", free_port(), folder)).url
        with host(folder, "distributor") if in_bucket else nullcontext():
            distributor = stack.enter_context(service("distributor", DISTRIBUTOR_PORT, folder))
        addresses = [[f"127.0.0.1:{server.port}"] for server in (distributor, loader)]
        nginx = stack.enter_context(nginx_site(folder, site_for(settings.main_dir), addresses[0], addresses[1]))
        print(f"   {'nginx':<11} {nginx.url}")
        console = f"{nginx.url}/loader/console"
        links = stack.enter_context(transfer_links(manager, console, MOD_ID))
        path = transfer(source, loader, manager)
        verify(source, asyncio.run(download(distributor.url, path, folder)))
        print(
            "\nAll done.\n"
            f"   The file      {f'{settings.s3_bucket}/{path}' if in_bucket else settings.main_dir / path}\n"
            f"   Download it   {distributor.url}/download/{path}\n"
            f"   Swagger UI    {nginx.url}/distributor/\n"
            f"                 {nginx.url}/loader/\n"
            f"   Console       {console}\n"
            f"                 {secrets.storage_manage_token} shows all that the loader does\n"
            f"                 {links} has buttons that make links for files of yours\n"
            "\nServing until Ctrl-C."
        )
        while True:
            signal.pause()


def configure(manager_url: str) -> tuple[Settings, Secrets]:
    """Write the configuration if there is none, and override what the demo has to, for the services too.

    Returns:
        The settings, and the secrets that the stand-in Manager shares with the services.

    Raises:
        DemoFailed: The configuration cannot be written.
        SettingsError: It cannot be used.
    """
    print("\n1. Configuration")
    path = PROJECT / (os.environ.get("OW_CONFIG") or "ow_config.py")
    if path.exists():
        print(f"   {path} is there and is used")
    else:
        command = [sys.executable, str(PROJECT / "token_gen.py"), "--write", str(path)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise DemoFailed(done.stderr)
        print(f"   {path} is written, with fresh secrets")
    # The configuration has only a hash of this token, so the stand-in Manager needs one of its own.
    manage_token = Secrets().storage_manage_token
    os.environ |= {
        "MANAGER_URL": manager_url,
        "MANAGER_TRANSFER_CALLBACK_URL": "",
        "ACCESS_SERVICE_URL": manager_url,
        "REDIS_URL": "",
        "CONSOLE_ENABLED": "true",
        "storage_manage_token": cheap_hash(manage_token),
    }
    settings = load_settings()
    # Services wait for the storage root, which may be a disk that is still to be mounted, and do not make it.
    settings.main_dir.mkdir(parents=True, exist_ok=True)
    return settings, Secrets(settings.transfer_jwt_secret, storage_manage_token=manage_token)


def use_bucket(stack: ExitStack, folder: Path) -> Settings:
    """Start Redis and an object store, have the services use them, and return the settings."""
    redis = stack.enter_context(redis_server(folder))
    (folder / "store").mkdir()
    store = stack.enter_context(running_object_store(folder / "store"))
    print(f"   {'Redis':<11} {redis.url}\n   {'Objects':<11} {store.server.url} (SeaweedFS)")
    bucket = settings_of(store.bucket())
    os.environ |= {"REDIS_URL": redis.url, **{name: str(value) for name, value in bucket.items()}}
    return load_settings()


@contextmanager
def host(folder: Path, name: str) -> Iterator[None]:
    """Start what is started in the block on a host of its own, as far as its folder goes."""
    usual = os.environ.get("MAIN_DIR")
    main_dir = folder / name
    main_dir.mkdir()
    os.environ["MAIN_DIR"] = str(main_dir)
    try:
        yield
    finally:
        del os.environ["MAIN_DIR"]
        if usual is not None:
            os.environ["MAIN_DIR"] = usual


def find_source(file: Path | None, folder: Path) -> Path:
    """Return the file to send: the one that was asked for, or a new `.7z` of this machine's files."""
    print("\n2. Source")
    if file is None:
        print("   Packing files of this machine ...")
        source = make_archive(folder)
        shown = source.name
    else:
        source, shown = file, str(file)
    contents = contents_of(source)
    unpacked = sum(content.size for content in contents.values())
    print(f"   {shown}: {readable(source.stat().st_size)}; unpacked {readable(unpacked)}, files: {len(contents)}")
    return source


def make_archive(folder: Path) -> Path:
    """Make a `.7z` of at least `SOURCE_BYTES` from files of this machine.

    Raises:
        DemoFailed: The machine has too few, or `7z` fails.
    """
    archive, names = folder / "this-machine.7z", folder / "names.txt"
    for batch in batches_of_files():
        names.write_text("\n".join(batch))
        # Compressed little, as it is only there to be unpacked.
        command = ["7z", "a", "-bso0", "-bsp0", "-mx=1", "-scsUTF-8", str(archive), f"@{names}"]
        done = subprocess.run(command, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True)
        # 1 is a warning, such as for a file that has gone since.
        if done.returncode > 1:
            raise DemoFailed(f"7z cannot pack files of this machine:\n{done.stderr}")
        if archive.stat().st_size >= SOURCE_BYTES:
            return archive
    raise DemoFailed("this machine has too few files for an archive. Use: make demo FILE=path/to/an/archive")


def batches_of_files() -> Iterator[list[str]]:
    """Yield names of regular files, relative to `/`, about `BATCH_BYTES` at a time."""
    batch, size = [], 0
    for root in (PROJECT / ".venv", Path("/usr/share"), Path("/usr/lib")):
        for folder, _, files in os.walk(root):
            for path in (Path(folder, file) for file in files):
                if path.is_symlink() or not path.is_file() or not str(path).isprintable():
                    continue
                batch.append(str(path.relative_to("/")))
                size += path.stat().st_size
                if size >= BATCH_BYTES:
                    yield batch
                    batch, size = [], 0
    yield batch


@contextmanager
def service(name: str, usual_port: int, folder: Path) -> Iterator[Server]:
    """Run one service until the block ends, and show what it printed if the demo fails.

    Raises:
        DemoFailed: It is not ready to work.
    """
    try:
        socket.create_server(("127.0.0.1", usual_port)).close()
        port = usual_port
    except OSError:
        port = free_port()
    with granian(name, folder, os.environ, port=port) as server:
        ready = httpx.get(f"{server.url}/{name}/readyz")
        if ready.status_code != 200:
            raise DemoFailed(f"the {name} is not ready: {ready.text}")
        print(f"   {name:<11} {server.url}")
        try:
            yield server
        except (DemoFailed, StorageError):
            last_lines = server.output().splitlines()[-LOG_LINES_SHOWN:]
            print(f"\nLast lines of the {name}'s log:", *last_lines, sep="\n   ", file=sys.stderr)
            raise


def transfer(source: Path, loader: Server, manager: StandIn) -> str:
    """Send a file through, and return where the Manager had it moved to, relative to the storage root.

    Raises:
        StorageError: The upload was refused.
        DemoFailed: The Manager did not get to move the file.
    """
    job_id = f"demo-{time.time_ns()}"
    print(f"\n4. Transfer {job_id}")
    token = manager.transfer_token(job_id, mod_id=MOD_ID, max_bytes=0)
    asyncio.run(upload_and_watch(source, loader.url, token))
    callback = manager.wait_for_callbacks(job_id)[0]
    if not isinstance(callback.move, Moved):
        raise DemoFailed(f"the Manager's move is answered {callback.move}")
    received, unpacked = readable(callback.claims["bytes"]), readable(callback.claims["unpacked_bytes"])
    print(f"   The Manager was told: {callback.claims['status']}, {received} in, {unpacked} unpacked")
    print(f"   It had the result moved to {callback.move.final_path}")
    return callback.move.final_path


async def upload_and_watch(source: Path, loader_url: str, token: str) -> None:
    """Upload a file, and show beside it what becomes of it.

    Raises:
        StorageError: It is refused.
    """
    async with httpx.AsyncClient() as http:
        transfer = Transfer(http, loader_url, token)
        drawing = asyncio.create_task(draw(transfer.follow()))
        try:
            await transfer.upload(source)
            await drawing
        finally:
            drawing.cancel()


async def draw(following: AsyncIterator[Progress]) -> None:
    """Draw progress bars of a transfer that is followed."""
    lines = ProgressLines(sys.stdout)
    drawn = set()
    async for progress in following:
        if progress.event == "complete":
            lines.finish()
            if "Repacking" not in drawn:
                print("   Nothing to extract or repack: a sound ZIP is kept as it is")
        elif progress.event == "error":
            lines.leave()
        elif bar := BAR_OF_STAGE.get(progress.stage):
            drawn.add(bar)
            if bar == "Upload":
                done, total = progress.bytes, progress.total
                lines.show(bar, done / total if total else 0, f"{readable(done)} of {readable(total or 0)}")
            else:
                lines.show(bar, (progress.percent or 0) / 100)


async def download(distributor_url: str, path: str, folder: Path) -> Path:
    """Download the result as a browser with cookies does.

    Raises:
        StorageError: It is refused.
    """
    print("\n5. Download")
    result = folder / "downloaded.zip"
    async with httpx.AsyncClient() as http:
        downloads = Downloads(http, distributor_url, {"accessToken": "demo", "refreshToken": "demo"})
        digest = await downloads.save(path, result)
    print(f"   {readable(result.stat().st_size)} of a protected archive, which the Access service allowed")
    print(f"   Its SHA-256 is as announced: {digest}")
    return result


def verify(source: Path, result: Path) -> None:
    """Compare the result with the source, entry by entry.

    Raises:
        DemoFailed: They differ, or the result is damaged.
    """
    print("\n6. Verification")
    wanted, got = contents_of(source), contents_of(result)
    if ITSELF in wanted and len(got) == 1:
        # A file that was no archive is the one entry now, under a name that was made safe.
        got = {ITSELF: content for content in got.values()}
    differing = sorted(name for name in wanted.keys() | got.keys() if wanted.get(name) != got.get(name))
    if differing:
        raise DemoFailed(f"{len(differing)} entries differ, such as {differing[0]}")
    # The comparison took the checksums that the ZIP announces; this reads what they belong to.
    tested = subprocess.run(["7z", "t", str(result)], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if tested.returncode:
        raise DemoFailed(f"the downloaded archive is damaged:\n{tested.stderr}")
    print(f"   Entries compared: {len(got)}; all have the names, sizes and checksums of the source")


def readable(count: int) -> str:
    """Return a number of bytes for people."""
    return f"{count / 1_000_000:,.1f} MB" if count >= 1_000_000 else f"{count / 1000:.1f} KB"


if __name__ == "__main__":
    sys.exit(main())
