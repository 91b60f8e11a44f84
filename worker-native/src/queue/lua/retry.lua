-- Puts claimed jobs aside until their pause is over.
-- ARGV: consumer, then for each job: flow, sid, id, lane, pause in ms, 1 where the start counts, failures
-- Gives 1 for a job that was still the consumer's
local WIDTH = 7
local consumer, now, answers, ids = ARGV[1], now_ms(), {}, {}

local function put_aside(a)
  local flow, sid, id, lane = ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3]
  local owner, claims = held(flow, sid)
  local fields = owner == consumer and entry_of(flow, sid)
  if not fields then return 0 end
  local starts = tonumber(field(fields, 'n') or 0) + claims - 1 + tonumber(ARGV[a + 5])
  -- Both copies for a moment: what fails in between leaves the job where it was.
  call('HSET', base .. 'job:' .. id, 'state', 'retrying', 'job', field(fields, 'job'), 'features', field(fields, 'features'),
    'until', field(fields, 'until') or '', 'n', starts, 'errors', ARGV[a + 6])
  call('ZADD', base .. 'delayed', now + tonumber(ARGV[a + 4]), id)
  call('XDEL', base .. 'flow:' .. flow, sid)
  call('XACK', base .. 'flow:' .. flow, GROUP, sid)
  count('running', lane, -1)
  ids[#ids + 1] = id
  return 1
end

for a = 2, #ARGV, WIDTH do answers[#answers + 1] = put_aside(a) end
tell(ids, now)
return answers
