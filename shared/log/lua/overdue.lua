-- OVERDUE: take up to `count` members whose time has come and look at them again in `delay` ms, so that
-- several reapers share the work and a reaper that dies with its catch loses nothing.
-- KEYS 1 due zset   ARGV 1 count  2 delay ms
-- Reply: members
local t = redis.call('TIME')
local n = t[1] * 1000 + math.floor(t[2] / 1000)
local members = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', n, 'LIMIT', 0, ARGV[1])
for _, member in ipairs(members) do
  redis.call('ZREM', KEYS[1], member) -- a full Redis refuses a ZADD, unless something was written before
  redis.call('ZADD', KEYS[1], n + tonumber(ARGV[2]), member)
end
return members
