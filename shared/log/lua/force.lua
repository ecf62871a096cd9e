-- FORCE: end a message that nobody owns (stop of a queued one, reaper). Acts only on the state the caller saw, and gives
-- one that was asked to stop no other end than that: who decided before the wish came looks again.
-- ARGV 1 mid  2 state  3 epoch seen  4 attempts seen  5 seq seen  6 random  7 final message  8 end payload
--      9 stream ttl ms  10 meta ttl ms  11 tombstone ttl ms  12.. payloads to put before the end
-- Reply {ok, last seq, state} | {moved, state, epoch} | {final, state} | {gone}
local mid, state, want_ep, want_at, want_seq, rnd, final, ending = unpack(ARGV, 1, 8)
local m = load_meta()
if not m.st then return {'gone'} end
if terminal(m.st) then return {'final', m.st} end
local n = now()
if text(m.ep) ~= want_ep or text(m.at) ~= want_at or text(m.seq) ~= want_seq
  or (m.st == 'running' and m.lu > n) or (m.stop and not m.ost and state ~= 'aborted') then
  return {'moved', m.st, text(m.ep)}
end
even_if_full()
local ep, seq = next_epoch(n, rnd, m.ep), m.seq
local fresh = {}
if m.ost then
  state = m.ost
  final, ending = unpack(redis.call('HMGET', M, 'ofin', 'oend'))
else
  for i = 12, #ARGV do fresh[#fresh + 1] = ARGV[i] end
end
fresh[#fresh + 1] = ending
for _, payload in ipairs(fresh) do
  seq = seq + 1
  -- the stream itself may be lost: a log may begin with its end
  redis.call('XADD', S, text(ep) .. '-' .. text(seq), 'd', payload)
end
redis.call('HSET', M, 'st', state, 'ep', text(ep), 'seq', text(seq), 'tok', '', 'lu', '0', 'final', final)
redis.call('HDEL', M, 'ofin', 'oend')
settle(mid, ARGV[9], ARGV[10], ARGV[11])
publish(m.ep, m.seq, ep, m.seq + 1, fresh)
return {'ok', text(seq), state}
