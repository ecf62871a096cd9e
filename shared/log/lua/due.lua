-- DUE: look at this message again in `delay` ms, by the server's clock.
-- KEYS 1 due zset   ARGV 1 delay ms  2 member
redis.call('ZREM', KEYS[1], ARGV[2]) -- a full Redis refuses a ZADD, unless something was written before
local t = redis.call('TIME')
redis.call('ZADD', KEYS[1], t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(ARGV[1]), ARGV[2])
return {'ok'}
