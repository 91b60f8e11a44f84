-- Hands dead letters in again under their old ids, without a deadline; their results are gone.
-- ARGV: ids
-- Gives 1 for each that was there
local now, answers, stored = now_ms(), {}, {}

local function hand_in(id)
  local f = call('HMGET', base .. 'dead:' .. id, 'lane', 'job', 'features', 'size', 'callback', 'flow')
  if not f[2] or not f[3] or not f[1] then return 0 end
  local flow = f[6] or 'normal'
  local sid = call('XADD', base .. 'flow:' .. flow, '*', 'id', id, 'lane', f[1], 'at', now, 'until', '',
    'size', f[4], 'callback', f[5] or '', 'job', f[2], 'features', f[3])
  local job = base .. 'job:' .. id
  call('DEL', job, base .. 'dead:' .. id, base .. 'outbox:' .. id)
  call('HSET', job, 'flow', flow, 'sid', sid, 'lane', f[1], 'size', f[4], 'at', now)
  if f[5] and f[5] ~= '' then call('HSET', job, 'callback', f[5]) end
  call('ZREM', base .. 'dead', id)
  call('ZREM', base .. 'outbox', id)
  call('LREM', base .. 'results', 1, id)
  new_flow(flow)
  waits(flow, now)
  count('depth', f[1], 1)
  count('count', 'bytes', tonumber(f[4]))
  count_tenant(tenant_of(flow), 1, tonumber(f[4]))
  stored[#stored + 1] = id
  return 1
end

for _, id in ipairs(ARGV) do answers[#answers + 1] = hand_in(id) end
if #stored > 0 then wake() end
tell(stored, now)
return answers
