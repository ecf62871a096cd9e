-- RESTORE: after Redis lost the message, its living owner writes it back from memory under the original ids.
-- A message that was started meanwhile keeps its place: the younger's policy decides, as it did in CREATE.
-- KEYS 1-6; 7 O  meta of the message that the caller saw in A (M itself if none); last P  the chat's latest message id
-- ARGV 1 mid  2 token  3 epoch  4 attempts  5 lease ms  6 live ttl ms  7 mid seen in A
--      8 hash  9 user  10 request  11 born ms  12 deadline ms (absolute)  13 worker's channel  14 policy
--      15 how long the message can be read after its end, ms  16.. pairs of entry id and payload, the whole log from entry 1
-- Reply {ok, last seq} | {busy, mid} | {retry, mid in A} | {fenced, state, epoch} | {final, state}
local O, P = KEYS[7], KEYS[#KEYS]
local mid, tok, ep, at, lease, ttl, seen = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5]), ARGV[6], ARGV[7]
local policy, started = ARGV[14], string.match(ARGV[16], '^(%d+)')
local m = load_meta()
if m.st then
  if terminal(m.st) then return {'final', m.st} end
  local mine = m.ep == ep and m.tok == tok
  if mine and redis.call('EXISTS', S) == 1 then return {'ok', text(m.seq)} end
  if not mine and m.ep >= ep then return {'fenced', m.st, text(m.ep)} end
elseif redis.call('EXISTS', G) == 1 then
  return {'final', 'deleted'}
end
local cur = redis.call('GET', A) or ''
if cur ~= seen then return {'retry', cur} end
local active, replaces = cur == '' or cur == mid, nil
if not active then
  local o = redis.call('HMGET', O, 'st', 'w', 'pol')
  active = not o[1] or terminal(o[1])
  if not active then
    local younger = tonumber(started) > tonumber(redis.call('ZSCORE', L, cur) or 0)
    local allowed = o[3]
    if younger then allowed = policy end
    if not m.st and allowed ~= 'parallel' and not (younger and allowed == 'replace') then return {'busy', cur} end
    active = younger
    if younger and allowed == 'replace' then replaces = o[2] end
  end
end
-- HSET first, so that a full Redis refuses the whole of it
local last = tonumber(string.match(ARGV[#ARGV - 1], '%-(%d+)$'))
redis.call('HSET', M, 'st', 'running', 'ep', text(ep), 'seq', text(last), 'tok', tok, 'lu', text(now() + lease),
  'at', at, 'w', ARGV[13], 'hash', ARGV[8], 'user', ARGV[9], 'req', ARGV[10], 'mid', mid, 'born', ARGV[11],
  'dl', ARGV[12], 'pol', policy)
redis.call('HDEL', M, 'ost', 'ofin', 'oend')
redis.call('DEL', S, F) -- the segments may be another owner's: the caller writes its own again
for i = 16, #ARGV, 2 do redis.call('XADD', S, ARGV[i], 'd', ARGV[i + 1]) end
if replaces then
  redis.call('HSETNX', O, 'stop', 'replaced')
  wake_worker(replaces, cur)
end
if active then
  redis.call('SET', A, mid, 'PX', ttl)
  -- one that names neither is younger than the loss, and has ended
  local latest = redis.call('GET', P)
  if not latest or latest == cur or latest == mid then
    redis.call('SET', P, mid, 'PX', text(math.max(0, ARGV[12] - now()) + ARGV[15]))
  end
end
redis.call('ZADD', L, started, mid)
for i = 1, 4 do redis.call('PEXPIRE', KEYS[i], ttl) end
redis.call('PUBLISH', S, text(ep) .. '-' .. text(last))
return {'ok', text(last)}
