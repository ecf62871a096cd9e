-- CLAIM: become the owner. The marker entry is the fence: after it no older epoch can append.
-- ARGV 1 token (new per try)  2 lease ms  3 most attempts  4 random  5 attempt seen  6 marker payload
--      7 worker's channel  8 live ttl ms
-- Reply {ok, epoch, seq, attempt} | {busy, ms left} | {moved, attempts} | {stopped} | {expired} | {exhausted}
--       | {decided} | {lost} | {final, state} | {gone}
-- stopped, expired, exhausted, decided and lost ask the caller to FORCE the end: a stop wins over a retry.
local tok, lease, most, rnd, seen, marker, worker, ttl = unpack(ARGV)
local m = load_meta()
if not m.st then return {'gone'} end
if terminal(m.st) then return {'final', m.st} end
local n = now()
if m.st == 'running' and m.tok == tok then return {'ok', text(m.ep), text(m.seq), text(m.at)} end
if m.st == 'running' and m.lu > n then return {'busy', text(m.lu - n)} end
if m.ost then return {'decided'} end
if m.stop then return {'stopped'} end
if m.dl > 0 and m.dl <= n then return {'expired'} end
if m.at >= tonumber(most) then return {'exhausted'} end
if text(m.at) ~= seen then return {'moved', text(m.at)} end
local ep, seq = next_epoch(n, rnd, m.ep), m.seq + 1
if not put(ep, seq, marker) then return {'lost'} end
redis.call('HSET', M, 'st', 'running', 'ep', text(ep), 'seq', text(seq), 'tok', tok,
  'lu', text(n + tonumber(lease)), 'at', text(m.at + 1), 'w', worker)
for i = 1, 4 do redis.call('PEXPIRE', KEYS[i], ttl) end
publish(m.ep, m.seq, ep, seq, {marker})
return {'ok', text(ep), text(seq), text(m.at + 1)}
