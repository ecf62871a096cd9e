-- FINISH: the owner ends the message. Final message, terminal entry, state and active pointer in one step, so
-- that "ended" always means "stored". The end entry goes behind the last one whatever `first` says.
-- ARGV 1 token  2 epoch  3 seq of the first payload  4 mid  5 state  6 final message  7 end payload
--      8 stream ttl ms  9 meta ttl ms  10 tombstone ttl ms  11.. payloads not yet acknowledged
-- Reply {ok, last seq, state} | {gap, last seq} | {fenced, state, epoch} | {lost} | {gone}
local tok, ep, first = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local mid, state, final, ending = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local m = load_meta()
if not m.st then return {'gone'} end
if terminal(m.st) and redis.call('HGET', M, 'ftok') == tok then return {'ok', text(m.seq), m.st} end
if m.st ~= 'running' or m.tok ~= tok or m.ep ~= ep then return {'fenced', m.st, text(m.ep)} end
if redis.call('EXISTS', S) == 0 then return {'lost'} end
if first > m.seq + 1 then return {'gap', text(m.seq)} end
if m.ost then
  state = m.ost
  final, ending = unpack(redis.call('HMGET', M, 'ofin', 'oend'))
end
even_if_full()
local last, fresh = m.seq, {}
for i = 11, #ARGV do
  local q = first + i - 11
  if q > last then
    put(ep, q, ARGV[i])
    last = q
    fresh[#fresh + 1] = ARGV[i]
  end
end
last = last + 1
put(ep, last, ending)
fresh[#fresh + 1] = ending
redis.call('HSET', M, 'seq', text(last), 'st', state, 'tok', '', 'lu', '0', 'ftok', tok, 'final', final)
redis.call('HDEL', M, 'ofin', 'oend')
settle(mid, ARGV[8], ARGV[9], ARGV[10])
publish(ep, m.seq, ep, m.seq + 1, fresh)
return {'ok', text(last), state}
