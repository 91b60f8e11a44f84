-- Hands claimed jobs back.
-- ARGV: consumer, then flow and sid of each job
local handed, ids = 0, {}
for a = 2, #ARGV, 2 do
  local owner, claims = held(ARGV[a], ARGV[a + 1])
  if owner == ARGV[1] then
    ids[#ids + 1] = hand_back(ARGV[a], ARGV[a + 1], claims)
    handed = handed + 1
  end
end
if handed > 0 then wake() end
tell(ids, now_ms())
return handed
