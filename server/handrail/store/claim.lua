-- Hide jobs that are due for a while and hand them over.
-- KEYS: hooks hookdata   ARGV: now  lease  job id…
-- Returns the payloads, in the order of the ids; a job that is no longer due, or gone, is left out.
local now, until_ = tonumber(ARGV[1]), tonumber(ARGV[1]) + tonumber(ARGV[2])
local taken = {}
for i = 3, #ARGV do
  local due = redis.call('ZSCORE', KEYS[1], ARGV[i])
  local payload = redis.call('HGET', KEYS[2], ARGV[i])
  if due and not payload then
    redis.call('ZREM', KEYS[1], ARGV[i])
  elseif due and tonumber(due) <= now then
    redis.call('ZADD', KEYS[1], until_, ARGV[i])
    taken[#taken + 1] = payload
  end
end
return taken
