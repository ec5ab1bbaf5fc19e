-- FreeSWITCH: a lookup from the dialplan, before the call is bridged. See docs/switches.md.
--
--   <action application="lua" data="screen.lua"/>
--   <action application="bridge" data="…"/>
--
-- Needs mod_curl and mod_lua. The session's thread waits for the answer, no other does.

local base = os.getenv("SCREENING_URL") or "http://127.0.0.1:8080"
local timeout_seconds = 1 -- mod_curl counts in whole seconds
local language = "en"

local function escape(text)
  return (text:gsub("[^%w%-%._~]", function(char)
    return string.format("%%%02X", string.byte(char))
  end))
end

local function question(session)
  local function variable(name)
    local value = session:getVariable(name)
    if value and value ~= "" and value ~= "_undef_" then
      return value
    end
  end
  local fields = {
    { "calling", variable("sip_P-Asserted-Identity") or variable("caller_id_number") },
    { "presentation", variable("sip_from_uri") },
    { "called", variable("destination_number") },
    { "dialled", variable("sip_to_uri") },
    { "call_id", variable("sip_call_id") },
    { "display_name", variable("caller_id_name") },
    { "verstat", variable("sip_verstat") },
    { "diverted_from", variable("sip_redirected_by") },
    { "side", "terminating" },
    { "region", variable("screening_region") or "US" },
  }
  if variable("privacy_hide_number") == "true" then
    table.insert(fields, { "calling_status", "restricted" })
  end
  local parts = {}
  for _, field in ipairs(fields) do
    if field[2] then
      table.insert(parts, field[1] .. "=" .. escape(field[2]))
    end
  end
  return base .. "/v1/screen?" .. table.concat(parts, "&")
end

local function screen(session)
  local api = freeswitch.API()
  local url = question(session)
  local body = api:execute("curl", url .. " timeout " .. timeout_seconds)
  local JSON = require("cjson.safe")
  local verdict = body and JSON.decode(body)
  if type(verdict) ~= "table" or not verdict.action then
    freeswitch.consoleLog("WARNING", "screening: no answer, the call goes on\n")
    return
  end
  session:setVariable("screening_decision_id", verdict.decision_id)
  if verdict.action == "block" then
    local sip = type(verdict.sip) == "table" and verdict.sip or { code = 603, phrase = "Decline" }
    if type(sip.reason) == "string" then
      session:setVariable("sip_rh_Reason", sip.reason)
    end
    for _, header in ipairs(sip.headers or {}) do
      session:setVariable("sip_rh_" .. header[1], header[2])
    end
    session:execute("respond", sip.code .. " " .. sip.phrase)
  elseif verdict.action == "warn" and type(verdict.label) == "table" then
    local label = verdict.label[language] or verdict.label.en
    if label then
      local name = session:getVariable("caller_id_name") or ""
      session:setVariable("effective_caller_id_name", (label .. " " .. name):gsub('"', ""))
    end
  end
end

if session and session:ready() then
  screen(session)
end
