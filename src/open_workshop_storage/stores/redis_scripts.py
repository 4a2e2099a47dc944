"""The Lua scripts of the Redis job store: each does in one step what must not be seen half done.

All times are the Redis server's own, in milliseconds, so that the clocks of several hosts need not agree.
"""

from __future__ import annotations

from open_workshop_storage.stores.redis_slot_functions import SLOTS

NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

_KEPT_SINCE = """
local function kept_since(key, keep)
    redis.call('SET', key, now, 'NX')
    redis.call('PEXPIRE', key, keep)
    return redis.call('GET', key)
end
"""

SAVE = NOW + _KEPT_SINCE + SLOTS + """
local job, since, forgotten, outbox, due, waiting, leases, paused, ended = unpack(KEYS)
local expected, version, data, owner, id = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local set, created, keep = ARGV[7], ARGV[8], ARGV[9]
local channel, event = ARGV[10], ARGV[11]
local jti, callback, lost_owners, schema = ARGV[12], ARGV[13], ARGV[14], ARGV[15]
local attempt, withdrawn, home, slot = ARGV[16], ARGV[17], ARGV[18], ARGV[19]
local held_version, had_owner, had_slot = unpack(redis.call('HMGET', job, 'version', 'owner', 'slot'))
if (held_version or '0') ~= expected then
    return false
end
if expected == '0' and redis.call('EXISTS', forgotten) == 1 then
    return false
end
if set == leases and owner ~= '' and slot ~= '' and not enter_as_owner(slot, owner) then
    if not is_waited_for[slot] then
        return 0
    end
    owner = ''
end
if set == leases and owner == '' and slot ~= '' then
    set = key(slot, 'jobs')
end
local kept = kept_since(since, keep)
redis.call('HSET', job, 'data', data, 'schema', schema, 'version', version, 'owner', owner, 'slot', slot,
    'lost_owners', lost_owners, 'kept_since', kept, 'attempt', attempt, 'home', home, 'created', created,
    'free_since', now)
redis.call('PEXPIRE', job, keep)
for i = 7, #KEYS do
    if KEYS[i] ~= set then
        redis.call('ZREM', KEYS[i], id)
    end
end
if set == paused or set == ended then
    redis.call('ZADD', set, now, id)
elseif owner ~= '' then
    redis.call('ZADD', leases, now + config.lease, id)
elseif slot ~= '' then
    redis.call('ZADD', set, created, id)
    serve(slot)
else
    redis.call('ZADD', leases, home == '' and math.min(created, now) or now, id)
    wake(home)
end
if had_slot ~= slot or had_owner ~= owner then
    give_back(had_slot, had_owner)
end
if withdrawn ~= '' then
    redis.call('HDEL', outbox, withdrawn)
    redis.call('ZREM', due, withdrawn)
    redis.call('ZREM', waiting, withdrawn)
end
if jti ~= '' then
    redis.call('HSET', outbox, jti, callback)
    redis.call('ZADD', due, now + config.lease, jti)
    redis.call('ZADD', waiting, now, jti)
end
if event ~= '' then
    redis.call('PUBLISH', channel, event)
end
return {kept, owner}
"""

RESTORE = NOW + _KEPT_SINCE + """
local job, since, leases = unpack(KEYS)
if redis.call('EXISTS', job) == 1 then
    return 1
end
local kept = kept_since(since, ARGV[6])
if kept == ARGV[7] then
    return 0
end
redis.call('HSET', job, 'data', ARGV[3], 'schema', ARGV[9], 'version', ARGV[1], 'owner', ARGV[2],
    'lost_owners', ARGV[8], 'kept_since', kept, 'attempt', ARGV[10], 'slot', ARGV[11], 'created', ARGV[12],
    'home', ARGV[13])
redis.call('PEXPIRE', job, ARGV[6])
redis.call('ZADD', leases, now + tonumber(ARGV[5]), ARGV[4])
return 1
"""

REMOVE = NOW + SLOTS + """
local version, owner, slot = unpack(redis.call('HMGET', KEYS[1], 'version', 'owner', 'slot'))
if (version or '0') ~= ARGV[2] then
    return 0
end
redis.call('DEL', KEYS[1])
for i = 3, #KEYS do
    redis.call('ZREM', KEYS[i], ARGV[3])
end
give_back(slot, owner)
if ARGV[4] ~= '' and tonumber(ARGV[5]) > now then
    redis.call('SET', KEYS[2], ARGV[4], 'PXAT', ARGV[5])
end
return 1
"""

# A job whose lease ran out loses its owner, and goes to the queue of its slot if it has one. Then the run gets the
# first job that waits for no slot, or the first that waits for one which is free, and is the only one until its lease
# runs out. Records of a newer schema are passed over, those of an owner unless expired leases count, and for one lease
# those whose files are on another host.
TAKE = NOW + _KEPT_SINCE + SLOTS + """
local leases, since = unpack(KEYS)
local owner, worker, keep, schema = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local expired, here = ARGV[6] == '1', ARGV[7]
local looked_at = 100
local function is_elsewhere(home, free_since)
    return home and home ~= '' and home ~= here and tonumber(free_since) + config.lease > now
end
local function register_as_idle()
    for _, idle in ipairs(here == '' and {''} or {'', here}) do
        redis.call('ZADD', config.idle .. idle, now, worker)
        redis.call('PEXPIRE', config.idle .. idle, config.lease)
    end
end
local function may_be_more()
    for _, slot in ipairs(config.slots_of_jobs) do
        if redis.call('EXISTS', key(slot, 'jobs')) == 1 and has_room(slot) then
            return true
        end
    end
    return redis.call('ZCOUNT', leases, '-inf', now) > 0
end
local function taken(id)
    local job = config.job .. id
    redis.call('HINCRBY', job, 'version', 1)
    redis.call('HSET', job, 'owner', owner, 'kept_since', kept_since(since, keep))
    redis.call('PEXPIRE', job, keep)
    redis.call('ZADD', leases, now + config.lease, id)
    local more = may_be_more()
    if not more then
        register_as_idle()
    end
    return {more and 1 or 0, redis.call('HMGET', job, unpack(ARGV, 8))}
end
local passed = 0
repeat
    local ids = redis.call('ZRANGE', leases, '-inf', now, 'BYSCORE', 'LIMIT', passed, looked_at, 'WITHSCORES')
    for i = 1, #ids, 2 do
        local id, ended = ids[i], ids[i + 1]
        local job = config.job .. id
        local before, written_by, home, slot, created =
            unpack(redis.call('HMGET', job, 'owner', 'schema', 'home', 'slot', 'created'))
        if not before then
            redis.call('ZREM', leases, id)
        elseif tonumber(written_by) > schema or not (expired or before == '') then
            passed = passed + 1
        elseif is_waited_for[slot] then
            redis.call('HINCRBY', job, 'version', 1)
            redis.call('HINCRBY', job, 'lost_owners', before == '' and 0 or 1)
            redis.call('HSET', job, 'owner', '', 'free_since', ended)
            redis.call('ZREM', leases, id)
            redis.call('ZREM', key(slot, 'held'), before)
            redis.call('ZADD', key(slot, 'jobs'), created or ended, id)
        elseif is_elsewhere(home, ended) then
            passed = passed + 1
        else
            redis.call('HINCRBY', job, 'lost_owners', before == '' and 0 or 1)
            redis.call('HSET', job, 'slot', '')
            give_back(slot, before)
            return taken(id)
        end
    end
until #ids == 0
for _, slot in ipairs(config.slots_of_jobs) do
    -- Nobody else is woken: this worker looks for the job itself.
    if grant(slot) then
        for _, id in ipairs(redis.call('ZRANGE', key(slot, 'jobs'), 0, looked_at - 1)) do
            local written_by, home, free_since =
                unpack(redis.call('HMGET', config.job .. id, 'schema', 'home', 'free_since'))
            if not written_by then
                redis.call('ZREM', key(slot, 'jobs'), id)
            elseif tonumber(written_by) <= schema and not is_elsewhere(home, free_since) then
                redis.call('ZREM', key(slot, 'jobs'), id)
                hold(slot, owner)
                return taken(id)
            end
        end
    end
end
register_as_idle()
return false
"""

# A holder is counted again if Redis was away for so long that it forgot it.
RENEW = NOW + SLOTS + """
local lost = {}
for i = 2, #ARGV, 3 do
    local id, owner, slot = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    local held_by, held_slot = unpack(redis.call('HMGET', config.job .. id, 'owner', 'slot'))
    if held_by == owner then
        redis.call('ZADD', KEYS[1], now + config.lease, id)
        if slot ~= '' and slot == held_slot then
            hold(slot, owner)
        end
    else
        table.insert(lost, id)
    end
end
return lost
"""

# What is left of a record that went by itself goes too; records of a newer schema are passed over.
UNCHANGED = NOW + """
local jobs, found, passed = ARGV[3], {}, 0
local limit, schema, before = tonumber(ARGV[2]), tonumber(ARGV[4]), now - tonumber(ARGV[1])
repeat
    local ids = redis.call('ZRANGE', KEYS[1], '-inf', before, 'BYSCORE', 'LIMIT', passed, limit - #found)
    for _, id in ipairs(ids) do
        local written_by = redis.call('HGET', jobs .. id, 'schema')
        if not written_by then
            redis.call('ZREM', KEYS[1], id)
        else
            passed = passed + 1
            if tonumber(written_by) <= schema then
                table.insert(found, redis.call('HMGET', jobs .. id, unpack(ARGV, 5)))
            end
        end
    end
until #found == limit or #ids == 0
return found
"""

ENTER = NOW + SLOTS + """
local slot, holder = ARGV[2], ARGV[3]
local held, queue, seen = key(slot, 'held'), key(slot, 'queue'), key(slot, 'seen')
if redis.call('ZSCORE', held, holder) then
    hold(slot, holder)
    return 1
end
redis.call('ZADD', queue, 'NX', tonumber(ARGV[4]) or now + time[2] % 1000 / 1000, holder)
redis.call('ZADD', seen, now + config.lease, holder)
redis.call('PEXPIRE', queue, config.lease)
redis.call('PEXPIRE', seen, config.lease)
serve(slot)
return redis.call('ZSCORE', held, holder) and 1 or 0
"""

LEAVE = NOW + SLOTS + """
for _, part in ipairs({'held', 'queue', 'seen'}) do
    redis.call('ZREM', key(ARGV[2], part), ARGV[3])
end
serve(ARGV[2])
"""

# A holder is counted again if Redis was away for so long that it forgot it.
RENEW_SLOT = NOW + SLOTS + """
for i = 3, #ARGV do
    hold(ARGV[2], ARGV[i])
end
"""

# Workers that have not reported for so long are gone. Metrics are added to those of the step that now is.
REPORT = NOW + """
local workers, told = unpack(KEYS)
local name, report, present, metrics, step, keep = unpack(ARGV, 1, 6)
redis.call('HSET', workers, name, report)
redis.call('ZADD', told, now, name)
for _, gone in ipairs(redis.call('ZRANGE', told, '-inf', now - present, 'BYSCORE')) do
    redis.call('HDEL', workers, gone)
    redis.call('ZREM', told, gone)
end
redis.call('PEXPIRE', workers, present)
redis.call('PEXPIRE', told, present)
local counts = metrics .. string.format('%d', time[1] - time[1] % step)
for i = 7, #ARGV, 2 do
    redis.call('HINCRBY', counts, ARGV[i], ARGV[i + 1])
end
redis.call('EXPIRE', counts, keep)
"""
