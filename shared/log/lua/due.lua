-- DUE: look at this message again in `delay` ms, by the server's clock.
-- KEYS 1 due zset   ARGV 1 delay ms  2 member  3 '1': only if it would be looked at later than that
local t = redis.call('TIME')
local at = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(ARGV[1])
local known = ARGV[3] == '1' and redis.call('ZSCORE', KEYS[1], ARGV[2])
if known and tonumber(known) <= at then return {'ok'} end
redis.call('ZREM', KEYS[1], ARGV[2]) -- a full Redis refuses a ZADD, unless something was written before
redis.call('ZADD', KEYS[1], at, ARGV[2])
return {'ok'}
