-- Begins a call under a key, unless it was made before.
-- ARGV: key, fingerprint, ms for which it counts as being made
-- Gives {} | {fingerprint, status, body}; the status of a call in the making is 0
local kept = call('GET', base .. 'idem:' .. ARGV[1])
if kept then return {string.match(kept, '^(%S+) (%d+) (.*)$')} end
call('SET', base .. 'idem:' .. ARGV[1], ARGV[2] .. ' 0 ', 'PX', ARGV[3])
return {}
