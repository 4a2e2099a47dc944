"""Tests stand where one looks for them: `<topic>/<module>.py` in `tests/<topic>/test_<module>.py`."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).resolve().parent
SOURCES = TESTS.parent / "src" / "open_workshop_storage"
ELSEWHERE = {
    # What routes answer is tested over HTTP, with the services around them.
    "app.py": "api/test_swagger.py",
    "__main__.py": "e2e/test_operator_commands.py",
    "api/dependencies.py": "e2e/test_service_surface.py",
    "api/documents/openapi.py": "api/test_openapi.py",
    "api/routes/blurhashes.py": "images/test_blurhashes.py",
    "api/routes/console.py": "e2e/test_console.py",
    "api/routes/downloads.py": "downloads/test_downloads.py",
    "api/routes/files.py": "api/test_files.py",
    "api/routes/health.py": "e2e/test_service_surface.py",
    "api/routes/progress.py": "e2e/test_progress.py",
    "api/routes/resumable.py": "e2e/test_resumable_uploads.py",
    "api/routes/transfers.py": "e2e/test_uploads.py",
    "service_factory.py": "e2e/test_service_surface.py",
    "services/runtime.py": "e2e/test_start.py",
    # Needs a running service, its signals and its connections.
    "observability/exporters.py": "e2e/test_telemetry.py",
    "observability/metrics.py": "observability/test_prometheus.py",
    "services/operations/findings.py": "operations/test_doctor.py",
    # One suite for both job stores.
    "stores/memory.py": "stores/test_job_stores.py",
    "stores/redis_channels.py": "stores/test_job_stores.py",
    "stores/redis_functions.py": "stores/test_job_stores.py",
    "stores/redis_keys.py": "stores/test_job_stores.py",
    "stores/redis_outbox.py": "stores/test_job_stores.py",
    "stores/redis_overview.py": "stores/test_job_stores.py",
    # One suite for all that is done to archives, and one for any storage.
    "services/storage/bucket.py": "storage/test_objects.py",
    "services/storage/opening.py": "e2e/test_hosts.py",
    "utils/archives/kinds.py": "archives/test_archives.py",
    "utils/archives/seven_zip_listing.py": "archives/test_inspection.py",
    "utils/archives/rar4_headers.py": "archives/test_cases.py",
    "utils/archives/decompression.py": "archives/test_archives.py",
    "utils/archives/rewriting.py": "archives/test_zip_inspection.py",
    # Seen in what it does for its callers.
    "core/setting_types.py": "core/test_settings.py",
    "utils/processes/python_child.py": "processes/test_python_children.py",
}
"""The tests of modules that have no file of their own, and why. The shorter the better."""
DECIDES = (ast.If, ast.IfExp, ast.Match, ast.For, ast.AsyncFor, ast.While, ast.Try, ast.With, ast.AsyncWith)


def has_logic(module: Path) -> bool:
    """Tell whether a module does more than name things."""
    return any(isinstance(node, DECIDES) for node in ast.walk(ast.parse(module.read_text())))


def own_tests(module: str) -> str:
    """Return where the tests of a module are looked for; below `tests/`, as `module` is below the package."""
    path = Path(module)
    return (Path(path.parent.name) / f"test_{path.name}").as_posix()


def test_each_module_with_logic_has_tests_where_one_looks_for_them() -> None:
    paths = [path for path in SOURCES.rglob("*.py") if path.name != "__init__.py" and has_logic(path)]
    modules = {path.relative_to(SOURCES).as_posix() for path in paths}
    assert [module for module in sorted(modules - ELSEWHERE.keys()) if not (TESTS / own_tests(module)).exists()] == []


def test_tests_that_stand_elsewhere_exist() -> None:
    assert [tests for tests in ELSEWHERE.values() if not (TESTS / tests).exists()] == []
