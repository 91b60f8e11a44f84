-- Counts a label, and replaces what is believed, unless the answer was labelled or something else is believed by now.
-- ARGV: the answer's name, ms to remember that it was labelled, version, head reckoned from, new head, new tail
-- Gives {'before'} | {'moved', head, tail} | {'counted'}
local labelled, version = base .. 'labelled:' .. ARGV[1], ARGV[3]
if call('EXISTS', labelled) == 1 then return {'before'} end
local head = call('HGET', base .. 'beliefs', version) or ''
if head ~= ARGV[4] then return {'moved', head, call('HGET', base .. 'detectors', version) or ''} end
call('SET', labelled, '1', 'PX', ARGV[2])
call('HSET', base .. 'beliefs', version, ARGV[5])
call('HSET', base .. 'detectors', version, ARGV[6])
return {'counted'}
