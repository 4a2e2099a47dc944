"""What all Lua scripts begin with: names, limits, and functions that give slots out and wake workers."""

from __future__ import annotations

import re
from collections.abc import Mapping

from open_workshop_storage.core.job import SCHEMA, Slot
from open_workshop_storage.core.store import LEASE_SECONDS, SLOTS_OF_JOBS
from open_workshop_storage.stores.redis_keys import FIELDS, RedisKeys

_IDLE_SECONDS = 3.0
"""After so long without a look for work, a worker that waits for some is taken for dead."""


def functions(keys: RedisKeys, limits: Mapping[Slot, int], keep_seconds: float) -> str:
    """Return what all scripts of a store begin with, the same text in all workers with the same settings.

    Args:
        limits: How many slots of each kind there are; 0, or no entry, for any number.
        keep_seconds: After so long without a change a record goes by itself.
    """
    values: dict[str, object] = {
        "names": vars(keys),
        "fields": FIELDS,
        "schema": SCHEMA,
        "slots_of_jobs": SLOTS_OF_JOBS,
        "limits": {slot: limits.get(slot, 0) for slot in Slot},
        "lease": int(LEASE_SECONDS * 1000),
        "idle_for": int(_IDLE_SECONDS * 1000),
        "keep": int(keep_seconds * 1000),
    }
    return "".join(f"local {name} = {_in_lua(value)}\n" for name, value in values.items()) + _FUNCTIONS


def _in_lua(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name} = {_in_lua(each)}" for name, each in value.items()) + "}"
    if isinstance(value, tuple):
        return "{" + ", ".join(map(_in_lua, value)) + "}"
    if isinstance(value, str):
        return '"' + re.sub(r'[\x00-\x1f"\\]', lambda found: f"\\{ord(found[0]):03}", value) + '"'
    return str(value)


# A holder that was not renewed, with a slot or in the queue, is gone with its worker.
_FUNCTIONS = """
-- What `RedisCalls.script` was given by name, and from where on in ARGV the rest of it stands.
local args, listed = {}, ARGV[1] + 2
for i = 2, listed - 1, 2 do
    args[ARGV[i]] = ARGV[i + 1]
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function key(slot, part)
    return names.slots .. slot .. ':' .. part
end
local function kept_since()
    redis.call('SET', names.kept_since, now, 'NX')
    redis.call('PEXPIRE', names.kept_since, keep)
    return redis.call('GET', names.kept_since)
end
local function drop_callback(jti)
    redis.call('HDEL', names.outbox, jti)
    redis.call('ZREM', names.due, jti)
    redis.call('ZREM', names.since, jti)
end
local is_waited_for = {}
for _, slot in ipairs(slots_of_jobs) do
    is_waited_for[slot] = true
end
local function hold(slot, holder)
    redis.call('ZADD', key(slot, 'held'), now + lease, holder)
    redis.call('PEXPIRE', key(slot, 'held'), lease)
end
local function has_room(slot)
    local held, limit = key(slot, 'held'), limits[slot]
    redis.call('ZREMRANGEBYSCORE', held, '-inf', now)
    return limit == 0 or redis.call('ZCARD', held) < limit
end
-- The one that looked for work longest ago.
local function wake(home)
    local idle = names.idle .. home
    redis.call('ZREMRANGEBYSCORE', idle, '-inf', now - idle_for)
    local worker = redis.call('ZPOPMIN', idle)[1]
    if worker then
        redis.call('PUBLISH', names.work .. worker, '')
    end
end
-- Gives free slots to the holders that are first; returns the job whose turn it is then, if a slot is left for it.
local function grant(slot)
    local queue, seen, jobs = key(slot, 'queue'), key(slot, 'seen'), key(slot, 'jobs')
    if redis.call('EXISTS', queue, jobs) == 0 then
        return
    end
    for _, gone in ipairs(redis.call('ZRANGE', seen, '-inf', now, 'BYSCORE')) do
        redis.call('ZREM', queue, gone)
        redis.call('ZREM', seen, gone)
    end
    while has_room(slot) do
        local job, since = unpack(redis.call('ZRANGE', jobs, 0, 0, 'WITHSCORES'))
        local first, place = unpack(redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES'))
        if not first or job and tonumber(since) < tonumber(place) then
            return job
        end
        redis.call('ZREM', queue, first)
        redis.call('ZREM', seen, first)
        hold(slot, first)
        redis.call('PUBLISH', names.granted, first)
    end
end
-- The same, and wakes a worker where that job is.
local function serve(slot)
    local job = grant(slot)
    if job then
        wake(redis.call('HGET', names.job .. job, 'home') or '')
    end
end
-- Takes the slot that a record names, if any, from its owner.
local function give_back(slot, owner)
    if slot and slot ~= '' and owner ~= '' then
        redis.call('ZREM', key(slot, 'held'), owner)
        serve(slot)
    end
end
-- Returns whether a run has the slot, which it gets only if nobody has waited for longer.
local function enter_as_owner(slot, owner)
    local is_free = redis.call('ZSCORE', key(slot, 'held'), owner) or limits[slot] == 0 or has_room(slot)
        and redis.call('EXISTS', key(slot, 'queue'), key(slot, 'jobs')) == 0
    if is_free then
        hold(slot, owner)
    end
    return is_free
end
"""
