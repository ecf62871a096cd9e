-- STOP: write down the wish to stop and wake the owner. It says nothing about whether the worker has stopped.
-- ARGV 1 mid  2 reason
-- Reply {stopping, ms of lease left} | {ownerless, epoch, attempts} (the caller may FORCE) | {final, state} | {gone}
local m = load_meta()
if not m.st then return {'gone'} end
if terminal(m.st) then return {'final', m.st} end
even_if_full()
if not m.stop then redis.call('HSET', M, 'stop', ARGV[2]) end
local n = now()
if m.st == 'running' and m.lu > n then
  wake_worker(m.w, ARGV[1])
  return {'stopping', text(m.lu - n)}
end
return {'ownerless', text(m.ep), text(m.at)}
