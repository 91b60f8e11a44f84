-- Keeps the answer of a call, or forgets the call; only where it is this one.
-- ARGV: key, fingerprint, status or '', body, ms to keep it
local key = base .. 'idem:' .. ARGV[1]
local kept = call('GET', key)
if kept and string.match(kept, '^%S+') ~= ARGV[2] then return 0 end
if ARGV[3] == '' then return call('DEL', key) end
call('SET', key, ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. ARGV[4], 'PX', ARGV[5])
return 1
