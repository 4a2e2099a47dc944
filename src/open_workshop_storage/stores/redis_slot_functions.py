"""The part of the Lua scripts that gives slots out and wakes workers (docs/ARCHITECTURE.md, "Redis keys")."""

from __future__ import annotations

import json
from collections.abc import Mapping

from open_workshop_storage.core.slots import SLOTS_OF_JOBS, Slot
from open_workshop_storage.core.store import LEASE_SECONDS
from open_workshop_storage.stores.redis_keys import RedisKeys

_IDLE_SECONDS = 3.0
"""After so long without a look for work, a worker that waits for some is taken for dead."""


def config_of(keys: RedisKeys, limits: Mapping[Slot, int]) -> str:
    """Return what scripts get as their first argument, if they begin with `SLOTS`.

    Args:
        limits: How many slots of each kind there are; 0, or no entry, for any number.
    """
    return json.dumps(
        {
            "job": keys.job,
            "slots": keys.slots,
            "granted": keys.granted,
            "idle": keys.idle,
            "work": keys.work,
            "lease": int(LEASE_SECONDS * 1000),
            "idle_for": int(_IDLE_SECONDS * 1000),
            "slots_of_jobs": SLOTS_OF_JOBS,
            "limits": {slot: limits.get(slot, 0) for slot in Slot},
        }
    )


# Holders, and holders that wait, which were not renewed are gone with their worker.
SLOTS = """
local config = cjson.decode(ARGV[1])
local function key(slot, part)
    return config.slots .. slot .. ':' .. part
end
local is_waited_for = {}
for _, slot in ipairs(config.slots_of_jobs) do
    is_waited_for[slot] = true
end
local function hold(slot, holder)
    redis.call('ZADD', key(slot, 'held'), now + config.lease, holder)
    redis.call('PEXPIRE', key(slot, 'held'), config.lease)
end
local function has_room(slot)
    local held, limit = key(slot, 'held'), config.limits[slot]
    redis.call('ZREMRANGEBYSCORE', held, '-inf', now)
    return limit == 0 or redis.call('ZCARD', held) < limit
end
-- The one that looked for work longest ago.
local function wake(home)
    local idle = config.idle .. home
    redis.call('ZREMRANGEBYSCORE', idle, '-inf', now - config.idle_for)
    local worker = redis.call('ZPOPMIN', idle)[1]
    if worker then
        redis.call('PUBLISH', config.work .. worker, '')
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
        redis.call('PUBLISH', config.granted, first)
    end
end
-- The same, and wakes a worker where that job is.
local function serve(slot)
    local job = grant(slot)
    if job then
        wake(redis.call('HGET', config.job .. job, 'home') or '')
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
    local is_free = redis.call('ZSCORE', key(slot, 'held'), owner) or config.limits[slot] == 0 or has_room(slot)
        and redis.call('EXISTS', key(slot, 'queue'), key(slot, 'jobs')) == 0
    if is_free then
        hold(slot, owner)
    end
    return is_free
end
"""
