-- EXTEND: what APPEND does, where all is as its owner believes: nearly every token. It looks at no clock, renews no
-- lease and tells of no stop; where something else is the case it writes nothing, and APPEND, given the same, says what.
-- KEYS 1 meta  2 stream   ARGV 1 token, which only the owner's record holds  2 seq of the last entry  3 epoch  4.. payloads
-- Reply {ok} | {unsure}
local M, S, last, ep, call = KEYS[1], KEYS[2], ARGV[2], ARGV[3], redis.call
local v = call('HMGET', M, 'tok', 'seq')
if v[1] ~= ARGV[1] or v[2] ~= last then return {'unsure'} end
for i = 4, #ARGV do
  if not call('XADD', S, 'NOMKSTREAM', ep .. '-' .. last + i - 3, 'd', ARGV[i]) then return {'unsure'} end
end
call('HSET', M, 'seq', last + #ARGV - 3)
-- a batch as in the prelude's `publish`
call('PUBLISH', S, ep .. '-' .. last .. ' ' .. ep .. '-' .. last + 1 .. '\n' .. table.concat(ARGV, '\n', 4))
return {'ok'}
