"""Every setting of the storage, with its default. Copy this file to `ow_config.py` and fill in the copy.

Six settings have no default and say FILL IN here; the services do not start until they are filled in.
`.venv/bin/python token_gen.py --write ow_config.py` makes the copy and fills in the four secret ones.
All others may be left out. An environment variable of the same name (in upper case also for the three tokens)
overrides what stands here. Sizes are in bytes, times in seconds.
"""

# ---- Storage ----

# The storage root: archive/, avatar/, resource/ and temp/ are made in it. A relative path starts at this folder.
MAIN_DIR = "storage"

# Disk space that transfers leave free.
STORAGE_RESERVE_BYTES = 1073741824

# A bucket of an S3-compatible store for the permanent files, in place of archive/, avatar/ and resource/ in MAIN_DIR,
# which then holds this host's unfinished work only. All hosts share it (see docs/DEPLOYMENT.md, "Several hosts").
# Empty: permanent files are in MAIN_DIR.
S3_BUCKET = ""

# The key to it, which may list the bucket, and read, write and delete its objects.
S3_ACCESS_KEY_ID = ""
S3_SECRET_ACCESS_KEY = ""

# Base URL of the store, such as "http://127.0.0.1:8333". Empty: Amazon's of the region.
S3_ENDPOINT_URL = ""

# The store's region; stores without regions take the default.
S3_REGION = "us-east-1"

# What all keys of ours begin with, such as "open-workshop"; a slash follows it by itself.
S3_PREFIX = ""

# ---- The services around this one ----

# Base URL of the Manager, such as "https://manager.example.org".
MANAGER_URL = "FILL IN"

# Full URL that the end of each transfer is reported to. Empty: MANAGER_URL + /internal/storage/transfer-completions
MANAGER_TRANSFER_CALLBACK_URL = ""

# Base URL of the Access service, which decides who may download a mod, such as "https://access.example.org".
ACCESS_SERVICE_URL = "FILL IN"

# How long the Access service may take to answer.
ACCESS_SERVICE_TIMEOUT_SECONDS = 30

# How long its permission counts for the same cookies and the same mod; 0 = it is asked for every download.
ACCESS_CACHE_TTL_SECONDS = 0

# ---- Downloads ----

# The internal location of an nginx in front that holds MAIN_DIR, such as "/stored-files", or leads to the bucket, such
# as "/stored-objects" (see docs/DEPLOYMENT.md): nginx then sends what the distributor permits. Empty: the distributor
# sends it.
ACCEL_REDIRECT_PREFIX = ""

# How files of a bucket reach clients: "stream" through the distributor, or "redirect", by an address of the store
# itself that holds for five minutes. With ACCEL_REDIRECT_PREFIX, nginx fetches them in either case.
S3_DOWNLOADS = "stream"

# How long browsers and proxies may keep public files without asking: a Cache-Control header by kind of file, empty for
# none. Files of mods are always "private, no-cache".
CACHE_CONTROL_ARCHIVE = "no-cache"
CACHE_CONTROL_RESOURCE = "public, max-age=300"
CACHE_CONTROL_AVATAR = "public, max-age=300"

# ---- Secrets ----

# Signs transfer tokens and callbacks; at least 32 bytes, and the same text as in the Manager's settings.
TRANSFER_JWT_SECRET = "FILL IN"

# bcrypt hashes of the tokens with which the Manager calls /upload, /delete, and /transfer/move or /transfer/repack.
# The Manager's settings hold the tokens themselves.
upload_file = "FILL IN"
delete_file = "FILL IN"
storage_manage_token = "FILL IN"

# ---- Malware ----

# Where ClamAV's daemon listens, such as "unix:/run/clamav/clamd.ctl" or "tcp:127.0.0.1:3310": it then judges what is
# packed before it is reported, and what /upload brings before it is in its place. Empty: nothing is scanned.
CLAMD_ADDRESS = ""

# What becomes of a file that it cannot judge, because it is away, silent or over a limit of its own: "refuse", "pass"
# with a warning, or "wait" for one that is away, and refuse all else.
SCAN_FAILURE = "refuse"

# How long it may take for one file.
SCAN_TIMEOUT_SECONDS = 120

# How long a file waits for a scanner that is away.
SCAN_WAIT_SECONDS = 3600

# ---- Limits ----

# Largest file that /upload takes; 0 = no limit.
UPLOAD_MAX_BYTES = 0

# Most bytes of files that a worker holds in memory for /upload at once before their tokens have come; a form that has
# its token first needs none of them, and may be of any size.
UPLOAD_UNTRUSTED_MAX_BYTES = 67108864

# Most bytes that a transfer may receive, unless its token says otherwise; 0 = no limit.
TRANSFER_MAX_BYTES = 0

# The same of an image.
TRANSFER_MAX_IMAGE_BYTES = 33554432

# Most bytes that an archive may have unpacked; 0 = no limit.
TRANSFER_MAX_UNPACKED_BYTES = 0

# How many times its own size an archive may have unpacked, 256 MiB being free to all; 0 = no limit.
TRANSFER_MAX_UNPACKED_RATIO = 250

# Most files and folders that an archive may have; 0 = no limit.
TRANSFER_MAX_ENTRIES = 200000

# How many uploads, fetches from URLs, and repacks run at once, over all workers that share a Redis; 0 = no limit.
# An upload over its limit is refused and may be tried again; fetches and repacks wait in order.
# Images of transfers have a queue of their own, with the limit of repacks.
TRANSFER_UPLOAD_CONCURRENCY = 4
TRANSFER_DOWNLOAD_CONCURRENCY = 8
TRANSFER_REPACK_CONCURRENCY = 4

# How long an upload, and a fetch from a URL, may take in all; 0 = no limit.
TRANSFER_UPLOAD_TIMEOUT_SECONDS = 3600
TRANSFER_DOWNLOAD_TIMEOUT_SECONDS = 3600

# How long either may go without a byte; 0 = no limit.
TRANSFER_IDLE_TIMEOUT_SECONDS = 60

# Average rate in bytes per second that either must keep after its first minute, or it times out; 0 = any rate.
TRANSFER_MIN_BYTES_PER_SECOND = 1024

# How long an unfinished resumable upload waits for its next byte, and how long an expired transfer token still opens
# the progress socket of its job, while that has not ended.
TRANSFER_RESUME_SECONDS = 86400

# How long one 7z command may run in all, and without output.
SEVEN_ZIP_TIMEOUT_SECONDS = 3600
SEVEN_ZIP_IDLE_TIMEOUT_SECONDS = 60

# How long /transfer/move waits for Redis or the storage root before it answers 503; less than a callback may take.
TRANSFER_MOVE_WAIT_SECONDS = 20

# Networks that fetches from URLs may reach besides public addresses: CIDRs separated by commas, "10.1.0.0/16,fd00::/8".
TRANSFER_ALLOWED_NETWORKS = ""

# Progress sockets that a worker holds at once, some 140 KB of memory each; more are closed with 1013. 0 = no limit.
TRANSFER_MAX_SOCKETS = 1500

# How many of them may be of one job; more are closed with 1013. 0 = no limit.
TRANSFER_MAX_SOCKETS_PER_JOB = 100

# How long a client may take nothing of what is sent to it, or not be heard of at all, before its connection is cut;
# 0 = as long as the system's TCP lets it.
CLIENT_STALL_TIMEOUT_SECONDS = 60

# ---- Callbacks to the Manager ----

# How long a callback's signature is valid.
TRANSFER_CALLBACK_TTL_SECONDS = 600

# How long one attempt may take, in which the Manager calls /transfer/move back; and for how long attempts are made.
TRANSFER_CALLBACK_TIMEOUT_SECONDS = 30
CALLBACK_RETRY_WINDOW_SECONDS = 86400

# ---- Jobs ----

# Redis that all workers on all hosts share, such as "redis://127.0.0.1:6379/0", or, where sentinels lead it,
# "redis+sentinel://10.0.0.11,10.0.0.12,10.0.0.13/workshop/0". Empty: jobs live in the memory of one loader process,
# and a restart forgets them.
REDIS_URL = ""

# What every key in Redis begins with.
REDIS_PREFIX = "open-workshop-storage"

# How long a job may stand idle before it and its files are removed, and how often such jobs are looked for.
JOB_TTL_SECONDS = 10800
CLEANUP_INTERVAL_SECONDS = 60

# How long a worker that is told to stop lets uploads come in before it ends them with 503.
SHUTDOWN_GRACE_SECONDS = 20

# ---- BlurHashes ----

# How many are kept in the memory of each worker, and how long they are kept in Redis.
BLURHASH_CACHE_SIZE = 100000
BLURHASH_CACHE_TTL_SECONDS = 604800

# ---- Operators ----

# Whether the loader has a page for uploads and operators, /loader/console, and the status that it shows,
# /loader/status, which takes the token of storage_manage_token.
CONSOLE_ENABLED = False

# ---- Logs and telemetry ----

# What log lines look like: "text" for people, "json" for programs.
LOG_FORMAT = "text"

# The DSN that Uptrace shows for the project. Empty: no telemetry.
UPTRACE_DSN = ""

# Labels of traces, metrics and logs.
OTEL_SERVICE_NAME = "open-workshop-storage"
OTEL_SERVICE_VERSION = ""
OTEL_DEPLOYMENT_ENVIRONMENT = ""

# How all of it is sent, "grpc" or "http", and where to, if not to where the DSN points.
UPTRACE_OTLP_PROTOCOL = "grpc"
UPTRACE_OTLP_GRPC_URL = ""
UPTRACE_OTLP_TRACES_URL = ""

# Whether Prometheus may ask for metrics at /distributor/metrics and /loader/metrics.
METRICS_ENABLED = False

# Requests without a trace: regular expressions for their URLs, separated by commas.
UPTRACE_FASTAPI_EXCLUDED_URLS = ""

# Spans that are left out of a trace: receive, send or operation, separated by commas.
UPTRACE_FASTAPI_EXCLUDE_SPANS = ""
