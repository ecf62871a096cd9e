-- CHECKPOINT: the owner stores one segment, the number-th from 0, in place of all that stand there and behind it.
-- A cache: it takes no place in the log, tells nobody, renews no lease, and a full Redis refuses it.
-- KEYS 1 meta  2 stream  3 segments: no others, or it would wait for the end of a slot's move
-- ARGV 1 token  2 epoch  3 number  4 seq of the last entry in it  5 segment
-- Reply {ok, segments there are} | {gap, segments there are} | {fenced, state, epoch} | {final, state} | {lost} | {gone}
local F = KEYS[3]
local tok, ep, number, last = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local m = load_meta()
if not m.st then return {'gone'} end
if terminal(m.st) then return {'final', m.st} end
if m.st ~= 'running' or m.tok ~= tok or m.ep ~= ep then return {'fenced', m.st, text(m.ep)} end
local life = redis.call('PTTL', S)
if life == -2 then return {'lost'} end
local n = redis.call('LLEN', F)
if number > n or last > m.seq then return {'gap', text(n)} end
if number == n then
  redis.call('RPUSH', F, ARGV[5])
else
  redis.call('LSET', F, number, ARGV[5])
  redis.call('LTRIM', F, 0, number)
end
if life > 0 then redis.call('PEXPIRE', F, life) end
return {'ok', text(number + 1)}
