-- DELETE: forget the content at once, running or not; a tombstone keeps late writers and RESTORE out.
-- ARGV 1 mid  2 meta ttl ms  3 tombstone ttl ms
-- Reply {ok} | {gone}
local m = load_meta()
if not m.st or m.st == 'deleted' then return {'gone'} end
even_if_full()
redis.call('HSET', M, 'st', 'deleted', 'tok', '', 'lu', '0', 'stop', 'deleted')
redis.call('HDEL', M, 'req', 'final', 'ofin', 'oend', 'ost')
settle(ARGV[1], ARGV[2], ARGV[2], ARGV[3])
redis.call('DEL', S, F)
wake_worker(m.w, ARGV[1])
redis.call('PUBLISH', S, 'deleted')
return {'ok'}
