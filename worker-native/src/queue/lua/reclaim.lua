-- Takes over jobs whose consumer has not settled them within the lease.
-- KEYS: stream   ARGV: group, consumer, lease in ms, count
-- Gives {id, starts so far, entry's fields} for each.
local taken = {}
for _, pending in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[3], '-', '+', ARGV[4])) do
  local claimed = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], pending[1])
  -- An entry deleted under its claim gives nothing; XCLAIM has then dropped it from the list.
  if claimed[1] and claimed[1][2] then
    taken[#taken + 1] = {pending[1], pending[4], claimed[1][2]}
  end
end
return taken
