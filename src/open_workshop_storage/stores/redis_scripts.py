"""The Lua scripts of the Redis job store: each does in one step what must not be seen half done.

All times are the Redis server's own, in milliseconds, so that the clocks of several hosts need not agree.
"""

_NOW = """
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

# Holders and waiters that were not renewed are gone with their worker; their slots and places go on.
_SLOTS = """
local function clear(held, queue, seen)
    redis.call('ZREMRANGEBYSCORE', held, '-inf', now)
    for _, gone in ipairs(redis.call('ZRANGE', seen, '-inf', now, 'BYSCORE')) do
        redis.call('ZREM', queue, gone)
        redis.call('ZREM', seen, gone)
    end
end
local function grant(held, queue, seen, limit, lease, granted)
    while limit == 0 or redis.call('ZCARD', held) < limit do
        local first = redis.call('ZPOPMIN', queue)[1]
        if not first then
            break
        end
        redis.call('ZREM', seen, first)
        redis.call('ZADD', held, now + lease, first)
        redis.call('PUBLISH', granted, first)
    end
    for _, key in ipairs({held, queue, seen}) do
        redis.call('PEXPIRE', key, lease)
    end
end
local function enter(keys, holder, limit, lease, granted, waits, place)
    local held, queue, seen = unpack(keys)
    clear(held, queue, seen)
    if redis.call('ZSCORE', held, holder) then
        redis.call('ZADD', held, now + lease, holder)
        grant(held, queue, seen, limit, lease, granted)
        return 1
    end
    redis.call('ZADD', queue, 'NX', place or now + time[2] % 1000 / 1000, holder)
    redis.call('ZADD', seen, now + lease, holder)
    grant(held, queue, seen, limit, lease, granted)
    if redis.call('ZSCORE', held, holder) then
        return 1
    end
    if not waits then
        redis.call('ZREM', queue, holder)
        redis.call('ZREM', seen, holder)
    end
    return 0
end
local function leave(keys, holder, limit, lease, granted)
    local held, queue, seen = unpack(keys)
    clear(held, queue, seen)
    for _, key in ipairs(keys) do
        redis.call('ZREM', key, holder)
    end
    grant(held, queue, seen, limit, lease, granted)
end
"""

# A slot is given back whatever becomes of the record; one that is taken goes with it.
SAVE = _NOW + _KEPT_SINCE + _SLOTS + """
local job, since, forgotten, outbox, due, waiting, leases, paused, ended = unpack(KEYS)
local expected, version, data, owner, id = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local set, created, lease, keep = ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9]
local channel, event, work = ARGV[10], ARGV[11], ARGV[12]
local jti, callback, lost_owners, schema = ARGV[13], ARGV[14], ARGV[15], ARGV[16]
local attempt, withdrawn, home = ARGV[17], ARGV[18], ARGV[19]
local step, holder, limit, granted = ARGV[20], ARGV[21], tonumber(ARGV[22]), ARGV[23]
local slot = {unpack(KEYS, 10)}
if step == 'leave' then
    leave(slot, holder, limit, lease, granted)
end
if (redis.call('HGET', job, 'version') or '0') ~= expected then
    return false
end
if expected == '0' and redis.call('EXISTS', forgotten) == 1 then
    return false
end
if step == 'enter' and enter(slot, holder, limit, lease, granted, false) == 0 then
    return 0
end
local kept = kept_since(since, keep)
redis.call('HSET', job, 'data', data, 'schema', schema, 'version', version, 'owner', owner,
    'lost_owners', lost_owners, 'kept_since', kept, 'attempt', attempt, 'home', home)
redis.call('PEXPIRE', job, keep)
for _, other in ipairs({leases, paused, ended}) do
    if other ~= set then
        redis.call('ZREM', other, id)
    end
end
if set ~= leases then
    redis.call('ZADD', set, now, id)
elseif owner ~= '' then
    redis.call('ZADD', leases, now + lease, id)
else
    redis.call('ZADD', leases, home == '' and math.min(created, now) or now, id)
    redis.call('PUBLISH', work, id)
end
if withdrawn ~= '' then
    redis.call('HDEL', outbox, withdrawn)
    redis.call('ZREM', due, withdrawn)
    redis.call('ZREM', waiting, withdrawn)
end
if jti ~= '' then
    redis.call('HSET', outbox, jti, callback)
    redis.call('ZADD', due, now + lease, jti)
    redis.call('ZADD', waiting, now, jti)
end
if event ~= '' then
    redis.call('PUBLISH', channel, event)
end
return kept
"""

RESTORE = _NOW + _KEPT_SINCE + """
local job, since, leases = unpack(KEYS)
if redis.call('EXISTS', job) == 1 then
    return 1
end
local kept = kept_since(since, ARGV[6])
if kept == ARGV[7] then
    return 0
end
redis.call('HSET', job, 'data', ARGV[3], 'schema', ARGV[9], 'version', ARGV[1], 'owner', ARGV[2],
    'lost_owners', ARGV[8], 'kept_since', kept, 'attempt', ARGV[10])
redis.call('PEXPIRE', job, ARGV[6])
redis.call('ZADD', leases, now + tonumber(ARGV[5]), ARGV[4])
return 1
"""

REMOVE = _NOW + """
if (redis.call('HGET', KEYS[1], 'version') or '0') ~= ARGV[1] then
    return 0
end
redis.call('DEL', KEYS[1])
for i = 3, #KEYS do
    redis.call('ZREM', KEYS[i], ARGV[2])
end
if ARGV[3] ~= '' and tonumber(ARGV[4]) > now then
    redis.call('SET', KEYS[2], ARGV[3], 'PXAT', ARGV[4])
end
return 1
"""

# The run that gets a job here is the only one until the lease runs out again; the owner that the record names until
# then is lost. Records of a newer schema are passed over, those of an owner unless expired leases count,
# and for one lease those whose files are on another host.
TAKE = _NOW + _KEPT_SINCE + """
local leases, since = unpack(KEYS)
local jobs, owner, limit, lease, keep = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local schema, expired, here = tonumber(ARGV[6]), ARGV[7] == '1', ARGV[8]
local taken, passed = {}, 0
repeat
    local ids = redis.call('ZRANGE', leases, '-inf', now, 'BYSCORE', 'LIMIT', passed, limit - #taken)
    for _, id in ipairs(ids) do
        local job = jobs .. id
        local before, written_by, home = unpack(redis.call('HMGET', job, 'owner', 'schema', 'home'))
        local is_elsewhere = home and home ~= '' and home ~= here
        if not before then
            redis.call('ZREM', leases, id)
        elseif tonumber(written_by) > schema or not (expired or before == '')
            or is_elsewhere and redis.call('ZSCORE', leases, id) + lease > now then
            passed = passed + 1
        else
            redis.call('HINCRBY', job, 'version', 1)
            redis.call('HINCRBY', job, 'lost_owners', before == '' and 0 or 1)
            redis.call('HSET', job, 'owner', owner, 'kept_since', kept_since(since, keep))
            redis.call('PEXPIRE', job, keep)
            redis.call('ZADD', leases, now + lease, id)
            table.insert(taken, redis.call('HMGET', job, unpack(ARGV, 9)))
        end
    end
until #taken == limit or #ids == 0
return taken
"""

# The worker that gets an id here is the only one to hear of it until the lease runs out again.
CLAIM = _NOW + """
local ids = redis.call('ZRANGE', KEYS[1], '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[1])
for _, id in ipairs(ids) do
    redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), id)
end
return ids
"""

RENEW = _NOW + """
local lost = {}
for i = 3, #ARGV, 2 do
    local id, owner = ARGV[i], ARGV[i + 1]
    if redis.call('HGET', ARGV[1] .. id, 'owner') == owner then
        redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), id)
    else
        table.insert(lost, id)
    end
end
return lost
"""

HOLD = _NOW + """
return redis.call('ZADD', KEYS[1], 'XX', now + tonumber(ARGV[2]), ARGV[1])
"""

# One that is due sooner than a hold lasts may be held.
HURRY = _NOW + """
local due = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not due then
    return false
end
if due - now > tonumber(ARGV[2]) then
    redis.call('ZADD', KEYS[1], now, ARGV[1])
    return 0
end
return math.max(due - now, 0)
"""

RETRY = _NOW + """
if tonumber(redis.call('HGET', KEYS[4], 'attempt') or 0) > tonumber(ARGV[4]) then
    return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('ZADD', KEYS[3], 'NX', now, ARGV[1])
return redis.call('ZADD', KEYS[2], now + tonumber(ARGV[2]), ARGV[1])
"""

PENDING = _NOW + """
local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
return {redis.call('ZCARD', KEYS[1]), oldest[2] and now - tonumber(oldest[2]) or 0}
"""

# What is left of a record that went by itself goes too; records of a newer schema are passed over.
UNCHANGED = _NOW + """
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

ENTER = _NOW + _SLOTS + """
return enter(KEYS, ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5] == '1', tonumber(ARGV[6]))
"""

LEAVE = _NOW + _SLOTS + """
leave(KEYS, ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4])
"""

# A holder is counted again if Redis was away for so long that it forgot it.
RENEW_SLOT = _NOW + """
for i = 2, #ARGV do
    redis.call('ZADD', KEYS[1], now + tonumber(ARGV[1]), ARGV[i])
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
"""

# Workers that have not reported for so long are gone. Metrics are added to those of the step that now is.
REPORT = _NOW + """
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
