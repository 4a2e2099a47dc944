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

SAVE = _NOW + _KEPT_SINCE + """
local job, since, leases, resting, outbox, due, waiting = unpack(KEYS)
local expected, version, data, owner, id = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local needs_worker, created, lease, keep = ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9]
local channel, event, work = ARGV[10], ARGV[11], ARGV[12]
local jti, callback, deaths = ARGV[13], ARGV[14], ARGV[15]
if (redis.call('HGET', job, 'version') or '0') ~= expected then
    return false
end
local kept = kept_since(since, keep)
redis.call('HSET', job, 'data', data, 'version', version, 'owner', owner, 'deaths', deaths, 'kept_since', kept)
redis.call('PEXPIRE', job, keep)
if needs_worker == '1' then
    redis.call('ZREM', resting, id)
    if owner == '' then
        redis.call('ZADD', leases, math.min(created, now), id)
        redis.call('PUBLISH', work, id)
    else
        redis.call('ZADD', leases, now + lease, id)
    end
else
    redis.call('ZREM', leases, id)
    redis.call('ZADD', resting, now, id)
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
redis.call('HSET', job, 'data', ARGV[3], 'version', ARGV[1], 'owner', ARGV[2], 'deaths', ARGV[8], 'kept_since', kept)
redis.call('PEXPIRE', job, ARGV[6])
redis.call('ZADD', leases, now + tonumber(ARGV[5]), ARGV[4])
return 1
"""

REMOVE = """
local job, leases, resting = unpack(KEYS)
if (redis.call('HGET', job, 'version') or '0') ~= ARGV[1] then
    return 0
end
redis.call('DEL', job)
redis.call('ZREM', leases, ARGV[2])
redis.call('ZREM', resting, ARGV[2])
return 1
"""

# Whoever is handed a job here is the only one until the lease runs out again; whom the record names until then is dead.
TAKE = _NOW + _KEPT_SINCE + """
local leases, since = unpack(KEYS)
local jobs, owner, limit, lease, keep = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local taken = {}
for _, id in ipairs(redis.call('ZRANGE', leases, '-inf', now, 'BYSCORE', 'LIMIT', 0, limit)) do
    local job = jobs .. id
    local before = redis.call('HGET', job, 'owner')
    if before then
        redis.call('HINCRBY', job, 'version', 1)
        redis.call('HINCRBY', job, 'deaths', before == '' and 0 or 1)
        redis.call('HSET', job, 'owner', owner, 'kept_since', kept_since(since, keep))
        redis.call('PEXPIRE', job, keep)
        redis.call('ZADD', leases, now + lease, id)
        table.insert(taken, redis.call('HMGET', job, unpack(ARGV, 6)))
    else
        redis.call('ZREM', leases, id)
    end
end
return taken
"""

# Whoever is handed an id here is the only one to hear of it until the lease runs out again.
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

RETRY = _NOW + """
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('ZADD', KEYS[3], 'NX', now, ARGV[1])
return redis.call('ZADD', KEYS[2], now + tonumber(ARGV[2]), ARGV[1])
"""

PENDING = _NOW + """
local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
return {redis.call('ZCARD', KEYS[1]), oldest[2] and now - tonumber(oldest[2]) or 0}
"""

IDLE = _NOW + """
return redis.call('ZRANGE', KEYS[1], '-inf', now - tonumber(ARGV[1]), 'BYSCORE', 'LIMIT', 0, ARGV[2])
"""

# Holders and waiters that were not renewed are gone with their worker; their slots and places go on.
_GRANT = """
local held, line, seen = unpack(KEYS)
local holder, limit, lease, granted = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
redis.call('ZREMRANGEBYSCORE', held, '-inf', now)
for _, gone in ipairs(redis.call('ZRANGE', seen, '-inf', now, 'BYSCORE')) do
    redis.call('ZREM', line, gone)
    redis.call('ZREM', seen, gone)
end
local function grant()
    while limit == 0 or redis.call('ZCARD', held) < limit do
        local first = redis.call('ZPOPMIN', line)[1]
        if not first then
            break
        end
        redis.call('ZREM', seen, first)
        redis.call('ZADD', held, now + lease, first)
        redis.call('PUBLISH', granted, first)
    end
    for _, key in ipairs(KEYS) do
        redis.call('PEXPIRE', key, lease)
    end
end
"""

ENTER = _NOW + _GRANT + """
if redis.call('ZSCORE', held, holder) then
    redis.call('ZADD', held, now + lease, holder)
    grant()
    return 1
end
redis.call('ZADD', line, 'NX', tonumber(ARGV[6]) or now + time[2] % 1000 / 1000, holder)
redis.call('ZADD', seen, now + lease, holder)
grant()
if redis.call('ZSCORE', held, holder) then
    return 1
end
if ARGV[5] == '0' then
    redis.call('ZREM', line, holder)
    redis.call('ZREM', seen, holder)
end
return 0
"""

LEAVE = _NOW + _GRANT + """
redis.call('ZREM', held, holder)
redis.call('ZREM', line, holder)
redis.call('ZREM', seen, holder)
grant()
"""

# Who uses a slot is counted again if Redis was away for so long that it forgot.
RENEW_SLOT = _NOW + """
for i = 2, #ARGV do
    redis.call('ZADD', KEYS[1], now + tonumber(ARGV[1]), ARGV[i])
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
"""
