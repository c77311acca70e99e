-- One turn of one user: state, timer, outbox and log, if the version is still the one the turn was decided on.
-- KEYS: state timers outbox log; ARGV: expected version (16 digits), state, due, user, message, line.
local version = redis.call('GETRANGE', KEYS[1], 0, 15)
if version == '' then version = '0000000000000000' end
if version ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[4])
redis.call('XADD', KEYS[3], 'MAXLEN', '~', 1000, '*', 'm', ARGV[5])
redis.call('XADD', KEYS[4], 'MAXLEN', '~', 1000000, '*', 'user', ARGV[4], 'line', ARGV[6])
return 1
