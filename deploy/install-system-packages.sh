#!/bin/sh
# Installs the Debian packages that a checkout needs and the machine lacks: what makes virtual environments, 7z,
# Redis, nginx, curl and ClamAV for the tests (as programs only: no service is left running), and on a new Python a
# compiler. Says nothing when nothing is missing. ClamAV is left out where it cannot be installed.
#
#   deploy/install-system-packages.sh PYTHON [PROGRAM]...
#
# PYTHON is the command of a Python of at least 3.11; each PROGRAM is needed besides and has a package of its name.
set -eu

fail() {
    echo "$*" >&2
    exit 1
}

python=${1:-}
[ -n "$python" ] || fail "Python 3.11 or newer is needed and was not found. As root: apt-get install python3"

packages=
"$python" -c "import ensurepip, venv" 2>/dev/null || packages="$packages $(basename "$python")-venv"
# From Python 3.13 on, blurhash-python is not to be had in compiled form.
"$python" -c 'if 1:
    import os, shutil, sys, sysconfig
    header = os.path.join(sysconfig.get_path("include"), "Python.h")
    has_compiler = shutil.which("gcc") and os.path.exists("/usr/include/stdio.h") and os.path.exists(header)
    sys.exit(sys.version_info >= (3, 13) and not has_compiler)
' || packages="$packages gcc libc6-dev $(basename "$python")-dev"
# From Debian 13 on p7zip-full only leads to 7zip, but in Debian 12 that package has no command named 7z.
command -v 7z >/dev/null || packages="$packages p7zip-full"
command -v redis-server >/dev/null || packages="$packages redis-server"
command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || packages="$packages nginx-light"
command -v curl >/dev/null || packages="$packages curl"
shift
for program in "$@"; do
    command -v "$program" >/dev/null || packages="$packages $program"
done
# Without it the tests of malware scanning are skipped.
optional=
[ -x /usr/sbin/clamd ] || command -v clamd >/dev/null || optional=clamav-daemon
[ -n "$packages$optional" ] || exit 0

command -v apt-get >/dev/null || [ -z "$packages" ] || fail "Missing, by the names of their Debian packages:$packages"
if [ "$(id -u)" -eq 0 ]; then
    as_root="env"
elif sudo -n true 2>/dev/null; then
    as_root="sudo -n env"
elif [ -z "$packages" ]; then
    exit 0
else
    fail "Debian packages are missing. As root: apt-get update && apt-get install --no-install-recommends$packages"
fi

# Debian starts a service as soon as it is installed, unless this file objects.
policy=/usr/sbin/policy-rc.d
case $packages$optional in
*redis-server* | *nginx-light* | *clamav-daemon*)
    if [ ! -e "$policy" ]; then
        trap '$as_root rm -f "$policy"' EXIT
        trap 'exit 1' HUP INT TERM
        # shellcheck disable=SC2016
        printf '#!/bin/sh\ncase $1 in redis-server* | nginx* | clamav*) exit 101 ;; esac\n' | $as_root tee "$policy" >/dev/null
        $as_root chmod 755 "$policy"
    fi
    ;;
esac

echo "Installing Debian packages:$packages $optional"
# A stale index of some other registry is no reason to stop; the installation shows whether all is there.
$as_root apt-get update -qq || true
install_packages() {
    $as_root DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends \
        -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 "$@" >/dev/null
}
# shellcheck disable=SC2086
[ -z "$packages" ] || install_packages $packages
if [ -n "$optional" ]; then
    if install_packages "$optional"; then
        $as_root update-rc.d clamav-daemon disable >/dev/null
        $as_root update-rc.d clamav-freshclam disable >/dev/null
    else
        echo "$optional cannot be installed: the tests of malware scanning are skipped."
    fi
fi
case $packages in
*redis-server*) $as_root update-rc.d redis-server disable >/dev/null ;;
esac
case $packages in
*nginx-light*) $as_root update-rc.d nginx disable >/dev/null ;;
esac
