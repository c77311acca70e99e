-- One turn of one user, all of it or nothing.
-- A Lua error does not undo what was written before it, so everything that could fail is tried before the first write.
-- KEYS: state outbox seen timers hooks hookdata log
-- ARGV: expected  state  alarm  now  user  channel  bell  #frames #seen #jobs #lines, then flat
--       frames: offset json;  seen: at id;  jobs: due id payload;  lines: json
-- The state begins with its head (see heads.py): stamp, version, offset, the op that wrote it, epoch; HEAD characters.
-- `expected` is the version and the op that this commit builds on, so nothing passes for it that is not that commit.
-- Returns 1; 2 when this very commit had been written before; 0 when what is stored is not what was expected.
local state, outbox, seen, timers, hooks, hookdata, log = unpack(KEYS)
local NONE = '0000000000000000'
local FIRST = 12
local call = redis.call

local function refuse(why)
  return redis.error_reply('REFUSED ' .. why)
end

if #KEYS ~= 7 then return refuse('commit takes 7 keys') end
local head = call('GETRANGE', state, 0, HEAD - 1)
local version, offset, op = string.sub(head, 5, 20), string.sub(head, 21, 36), string.sub(head, 37, 52)
if head == '' then version, offset, op = NONE, NONE, NONE end
if op ~= NONE and head == string.sub(ARGV[2], 1, HEAD) then
  call('SET', state, ARGV[2]) -- the same once more: what waits for replicas waits for writes of its own connection
  return 2
end
if version .. op ~= ARGV[1] then return 0 end

local frames, ids, jobs, lines = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
if not (frames and ids and jobs and lines) then return refuse('a count is not a number') end
if #ARGV ~= FIRST - 1 + 2 * frames + 2 * ids + 3 * jobs + lines then return refuse('the counts do not add up') end
if not tonumber(ARGV[4]) then return refuse('now is not a number') end
if ARGV[3] ~= '' and not tonumber(ARGV[3]) then return refuse('the alarm is not a number') end

local at_ids = FIRST + 2 * frames
local at_jobs = at_ids + 2 * ids
local at_lines = at_jobs + 3 * jobs
local last = tonumber(offset)
if not last then return refuse('the stored offset is not a number') end
for i = FIRST, at_ids - 1, 2 do
  last = last + 1
  if tonumber(ARGV[i]) ~= last then return refuse('messages do not continue at the stored offset') end
end
if tonumber(string.sub(ARGV[2], 21, 36)) ~= last then return refuse('the offset of the state is not its last message') end
for i = at_ids, at_jobs - 1, 2 do
  if not tonumber(ARGV[i]) then return refuse('the time of an event id is not a number') end
end
for i = at_jobs, at_lines - 1, 3 do
  if not tonumber(ARGV[i]) then return refuse('the due time of a job is not a number') end
end

-- Reading a key of the wrong type is an error, here while it still harms nothing.
call('ZCARD', timers)
local known = ids > 0 and call('ZCARD', seen) or 0
if jobs > 0 then call('ZCARD', hooks); call('HLEN', hookdata) end
if lines > 0 then call('XLEN', log) end
if frames > 0 and head ~= '' then
  local newest = call('XREVRANGE', outbox, '+', '-', 'COUNT', 1)[1]
  if newest and tonumber(string.match(newest[1], '^%d+')) > last - frames then
    return refuse('the outbox is ahead of the state')
  end
end

call('SET', state, ARGV[2])
if head == '' then call('DEL', outbox, seen) end -- of a state that was lost: its offsets mean nothing now
if frames > 0 then
  for i = FIRST, at_ids - 1, 2 do
    call('XADD', outbox, 'MAXLEN', '~', OUTBOX_MAX, ARGV[i] .. '-0', 'm', ARGV[i + 1])
  end
  call('PEXPIRE', outbox, OUTBOX_FOR)
end
if ids > 0 then
  for i = at_ids, at_jobs - 1, 2 do call('ZADD', seen, ARGV[i], ARGV[i + 1]) end
  call('ZREMRANGEBYSCORE', seen, '-inf', string.format('(%.0f', tonumber(ARGV[4]) - SEEN_FOR))
  if known + ids > SEEN_MAX then call('ZREMRANGEBYRANK', seen, 0, -SEEN_MAX - 1) end
  call('PEXPIRE', seen, SEEN_FOR)
end
if ARGV[3] == '' then
  call('ZREM', timers, ARGV[5])
else
  call('ZADD', timers, ARGV[3], ARGV[5])
end
for i = at_jobs, at_lines - 1, 3 do
  if call('HSETNX', hookdata, ARGV[i + 1], ARGV[i + 2]) == 1 then
    call('ZADD', hooks, ARGV[i], ARGV[i + 1])
  end
end
for i = at_lines, #ARGV do
  call('XADD', log, 'MAXLEN', '~', LOG_MAX, '*', 'user', ARGV[5], 'at', ARGV[4], 'line', ARGV[i])
end
if frames > 0 then call('SPUBLISH', ARGV[6], ARGV[7]) end
return 1
