"""The Lua scripts of the Redis job store: each does in one step what must not be seen half done.

Each goes behind what `redis_functions` makes. Times are the Redis server's own, in milliseconds, so that the clocks of
several hosts need not agree.
"""

from __future__ import annotations

SAVE = """
local id, set, owner, slot = args.id, args.set, args.owner, args.slot
local job = names.job .. id
local held_version, had_owner, had_slot = unpack(redis.call('HMGET', job, 'version', 'owner', 'slot'))
if (held_version or '0') ~= args.expected then
    return false
end
if args.expected == '0' and redis.call('EXISTS', names.forgotten .. id) == 1 then
    return false
end
if set == 'leases' and owner ~= '' and slot ~= '' and not enter_as_owner(slot, owner) then
    if not is_waited_for[slot] then
        return 0
    end
    owner = ''
end
local is_queued = set == 'leases' and owner == '' and slot ~= ''
local put_into = is_queued and key(slot, 'jobs') or names[set]
local kept = kept_since()
redis.call('HSET', job, 'owner', owner, 'kept_since', kept, 'free_since', now, unpack(ARGV, listed))
redis.call('PEXPIRE', job, keep)
for _, each in ipairs(names.sets) do
    if each ~= put_into then
        redis.call('ZREM', each, id)
    end
end
if set ~= 'leases' then
    redis.call('ZADD', put_into, now, id)
elseif owner ~= '' then
    redis.call('ZADD', put_into, now + lease, id)
elseif is_queued then
    redis.call('ZADD', put_into, args.created, id)
    serve(slot)
else
    redis.call('ZADD', put_into, args.home == '' and math.min(args.created, now) or now, id)
    wake(args.home)
end
if had_slot ~= slot or had_owner ~= owner then
    give_back(had_slot, had_owner)
end
if args.withdrawn then
    drop_callback(args.withdrawn)
end
if args.callback then
    redis.call('HSET', names.outbox, args.jti, args.callback)
    redis.call('ZADD', names.due, now + lease, args.jti)
    redis.call('ZADD', names.since, now, args.jti)
end
if args.event then
    redis.call('PUBLISH', names.events .. id, args.event)
end
return {kept, owner}
"""

RESTORE = """
local job = names.job .. args.id
if redis.call('EXISTS', job) == 1 then
    return 1
end
local kept = kept_since()
if kept == args.kept_before then
    return 0
end
redis.call('HSET', job, 'owner', args.owner, 'kept_since', kept, unpack(ARGV, listed))
redis.call('PEXPIRE', job, keep)
redis.call('ZADD', names.leases, now + lease, args.id)
return 1
"""

REMOVE = """
local job = names.job .. args.id
local version, owner, slot = unpack(redis.call('HMGET', job, 'version', 'owner', 'slot'))
if (version or '0') ~= args.expected then
    return 0
end
redis.call('DEL', job)
for _, each in ipairs(names.sets) do
    redis.call('ZREM', each, args.id)
end
give_back(slot, owner)
if args.status and tonumber(args.expires_at) > now then
    redis.call('SET', names.forgotten .. args.id, args.status, 'PXAT', args.expires_at)
end
return 1
"""

# A job whose lease ran out loses its owner, and goes to the queue of its slot if it has one. Then the run gets the
# first job that waits for no slot, or the first that waits for one which is free, and is the only one until its lease
# runs out. Records of a newer schema are passed over, those of an owner unless expired leases count, and for one lease
# those whose files are on another host.
TAKE = """
local owner, worker, expired, here = args.owner, args.worker, args.expired == '1', args.home or ''
local leases = names.leases
local looked_at = 100
local function is_elsewhere(home, free_since)
    return home and home ~= '' and home ~= here and tonumber(free_since) + lease > now
end
local function register_as_idle()
    for _, idle in ipairs(here == '' and {''} or {'', here}) do
        redis.call('ZADD', names.idle .. idle, now, worker)
        redis.call('PEXPIRE', names.idle .. idle, lease)
    end
end
local function may_be_more()
    for _, slot in ipairs(slots_of_jobs) do
        if redis.call('EXISTS', key(slot, 'jobs')) == 1 and has_room(slot) then
            return true
        end
    end
    return redis.call('ZCOUNT', leases, '-inf', now) > 0
end
local function taken(id)
    local job = names.job .. id
    redis.call('HINCRBY', job, 'version', 1)
    redis.call('HSET', job, 'owner', owner, 'kept_since', kept_since())
    redis.call('PEXPIRE', job, keep)
    redis.call('ZADD', leases, now + lease, id)
    local more = may_be_more()
    if not more then
        register_as_idle()
    end
    return {more and 1 or 0, redis.call('HMGET', job, unpack(fields))}
end
local passed = 0
repeat
    local ids = redis.call('ZRANGE', leases, '-inf', now, 'BYSCORE', 'LIMIT', passed, looked_at, 'WITHSCORES')
    for i = 1, #ids, 2 do
        local id, ended = ids[i], ids[i + 1]
        local job = names.job .. id
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
for _, slot in ipairs(slots_of_jobs) do
    -- Nobody else is woken: this worker looks for the job itself.
    if grant(slot) then
        for _, id in ipairs(redis.call('ZRANGE', key(slot, 'jobs'), 0, looked_at - 1)) do
            local written_by, home, free_since =
                unpack(redis.call('HMGET', names.job .. id, 'schema', 'home', 'free_since'))
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
RENEW = """
local lost = {}
for i = listed, #ARGV, 3 do
    local id, owner, slot = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    local held_by, held_slot = unpack(redis.call('HMGET', names.job .. id, 'owner', 'slot'))
    if held_by == owner then
        redis.call('ZADD', names.leases, now + lease, id)
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
UNCHANGED = """
local set, before, limit = names[args.set], now - args.unchanged_for, tonumber(args.limit)
local found, passed = {}, 0
repeat
    local ids = redis.call('ZRANGE', set, '-inf', before, 'BYSCORE', 'LIMIT', passed, limit - #found)
    for _, id in ipairs(ids) do
        local written_by = redis.call('HGET', names.job .. id, 'schema')
        if not written_by then
            redis.call('ZREM', set, id)
        else
            passed = passed + 1
            if tonumber(written_by) <= schema then
                table.insert(found, redis.call('HMGET', names.job .. id, unpack(fields)))
            end
        end
    end
until #found == limit or #ids == 0
return found
"""

ENTER = """
local slot, holder = args.slot, args.holder
local held, queue, seen = key(slot, 'held'), key(slot, 'queue'), key(slot, 'seen')
if redis.call('ZSCORE', held, holder) then
    hold(slot, holder)
    return 1
end
redis.call('ZADD', queue, 'NX', args.since or now + time[2] % 1000 / 1000, holder)
redis.call('ZADD', seen, now + lease, holder)
redis.call('PEXPIRE', queue, lease)
redis.call('PEXPIRE', seen, lease)
serve(slot)
return redis.call('ZSCORE', held, holder) and 1 or 0
"""

LEAVE = """
for _, part in ipairs({'held', 'queue', 'seen'}) do
    redis.call('ZREM', key(args.slot, part), args.holder)
end
serve(args.slot)
"""

# A holder is counted again if Redis was away for so long that it forgot it.
RENEW_SLOT = """
for i = listed, #ARGV do
    hold(args.slot, ARGV[i])
end
"""

WAITING = """
local counts = {}
for i = listed, #ARGV do
    table.insert(counts, redis.call('ZCARD', key(ARGV[i], 'queue')) + redis.call('ZCARD', key(ARGV[i], 'jobs')))
end
return counts
"""

# Workers that have not reported for so long are gone. Metrics are added to those of the step that now is.
REPORT = """
redis.call('HSET', names.workers, args.name, args.report)
redis.call('ZADD', names.reported, now, args.name)
for _, gone in ipairs(redis.call('ZRANGE', names.reported, '-inf', now - args.present, 'BYSCORE')) do
    redis.call('HDEL', names.workers, gone)
    redis.call('ZREM', names.reported, gone)
end
redis.call('PEXPIRE', names.workers, args.present)
redis.call('PEXPIRE', names.reported, args.present)
local counts = names.metrics .. string.format('%d', time[1] - time[1] % args.step)
for i = listed, #ARGV, 2 do
    redis.call('HINCRBY', counts, ARGV[i], ARGV[i + 1])
end
redis.call('EXPIRE', counts, args.kept_for)
"""
