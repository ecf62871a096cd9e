-- DUE: look at these messages again in `delay` ms, by the server's clock.
-- KEYS 1 due zset   ARGV 1 delay ms  2 '1': only if it would be looked at later than that  3.. members
local t = redis.call('TIME')
local at = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(ARGV[1])
for i = 3, #ARGV do
  local known = ARGV[2] == '1' and redis.call('ZSCORE', KEYS[1], ARGV[i])
  if not known or tonumber(known) > at then
    redis.call('ZREM', KEYS[1], ARGV[i]) -- a full Redis refuses a ZADD, unless something was written before
    redis.call('ZADD', KEYS[1], at, ARGV[i])
  end
end
return {'ok'}
