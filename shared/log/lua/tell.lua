-- TELL: note that somebody has got the end, so that clients without a cursor are not given it again.
-- Reply {ok} | {running} | {gone}
local m = load_meta()
if not m.st then return {'gone'} end
if not terminal(m.st) then return {'running'} end
even_if_full()
redis.call('HSET', M, 'told', '1')
return {'ok'}
