-- TELL: note when somebody first got the end, so that clients without a cursor are not given it for ever.
-- Reply {ok} | {running} | {gone}
local m = load_meta()
if not m.st then return {'gone'} end
if not terminal(m.st) then return {'running'} end
even_if_full()
redis.call('HSETNX', M, 'told', text(now()))
return {'ok'}
