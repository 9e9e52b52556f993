#!/usr/bin/env bash
# Resumability by hand, with the server of mcpserver_sqlite.py: bash examples/resume_with_curl.sh [URL]
set -euo pipefail
url=${1:-http://127.0.0.1:8000/mcp}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

post() { # post BODY [CURL OPTION...]
  local body=$1
  shift
  curl -sSN "$url" -H 'Content-Type: application/json' -H 'Accept: application/json, text/event-stream' "$@" -d "$body"
}

echo '--- A session. Its id is in the headers.'
post '{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},
  "clientInfo":{"name":"curl","version":"1"}}}' -D "$folder/headers"
session=$(sed -n 's/^mcp-session-id: *//Ip' "$folder/headers" | tr -d '\r')
same=(-H "Mcp-Session-Id: $session" -H 'MCP-Protocol-Version: 2025-11-25')
post '{"jsonrpc":"2.0","method":"notifications/initialized"}' "${same[@]}"
echo "session $session"

echo '--- A call that takes two seconds, from which we are cut off after one.'
# tools/call names a progress token, or there would be no progress to lose.
post '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"count","arguments":{"to":20},
  "_meta":{"progressToken":"p"}}}' "${same[@]}" --max-time 1 | tee "$folder/events" || true
last=$(sed -n 's/^id: *//p' "$folder/events" | tail -1 | tr -d '\r')

echo "--- The call goes on. What has come since, what comes, and the result: Last-Event-ID $last"
# Kill the server before this line, start it again, and the call ends with an error that says so.
curl -sSN "$url" -H 'Accept: text/event-stream' -H "Last-Event-ID: $last" "${same[@]}"

echo '--- The session ends.'
curl -sS -X DELETE "$url" "${same[@]}" -w 'status %{http_code}\n'
