-- Asks the questions of a file (see benchmarks/traffic.py) in turn, each call with an id of its own,
-- and says as JSON what came of it. Its words: the file, and where the ids begin.

local heads, tails, again = {}, {}, {}
local at, id = 0, 0

function init(words)
    id = tonumber(words[2])
    for line in io.lines(words[1]) do
        local body = line:sub(2)
        local request = wrk.format(
            "POST", "/v1/screen", { ["content-type"] = "application/json" }, body)
        local from, to = request:find("@@@@@@@@@@@@", 1, true)
        heads[#heads + 1] = request:sub(1, from - 1)
        tails[#tails + 1] = request:sub(to + 1)
        again[#again + 1] = line:sub(1, 1) == "R"
    end
end

function request()
    at = at % #heads + 1
    if not again[at] then id = id + 1 end
    -- All of an id's digits change from one to the next: of long strings LuaJIT's hash looks at some
    -- bytes alone, chosen at the start, and strings that have those in common are slow to tell apart.
    local low = id % 0x1000000 * 0x9e3779 % 0x1000000
    local high = (math.floor(id / 0x1000000) + low * 0xc2b2ae) % 0x1000000
    return heads[at] .. string.format("%06x%06x", high, low) .. tails[at]
end

function done(summary, latency)
    local errors = summary.errors
    print(string.format(
        '{"calls": %d, "seconds": %.6f, "failed": %d, "p50_us": %d, "p99_us": %d}',
        summary.requests, summary.duration / 1e6,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout,
        latency:percentile(50), latency:percentile(99)))
end
