--- `luio completion SHELL`: a script that asks `luio __complete -- WORDS...` for completions of the
--- last of these words.
---
--- The scripts know nothing of commands; all of it is here, taken from the commands' own parsers, so
--- that a new option is completed without a further line. The kind of an argument's value follows from
--- its name: a `device` is one of luio.list(), a `place` is a register of that device's map. QEMU is asked for the names of its devices,
--- and the register map of one is that of the driver whose qemu.lua names it.
---
--- Candidates go to standard output, a line each. A line ":files svd xml" asks the shell for files of these kinds
--- (":files": of any), which it names better than we could. A candidate that ends in one of . [ = : / goes on: no space is
--- put behind it. Nothing is opened, no model or machine is started, and errors are not printed: an error in the middle of a
--- command line does not help. A completion that takes longer than a person waits for TAB is ended: a map that loops, a
--- FIFO in the place of a file.

local lua_process = require "luio.host.lua_process"
local complete_place = require("luio.tool.explore.candidates").place
local maps = require "luio.driver.maps"
local match = require "luio.driver.match"
local catalog = require "luio.qemu.catalog"
local folders = require "luio.qemu.folders"
local process = require "luio.host.process"
local paths = require "luio.driver.paths"
local trust = require "luio.host.trust"
local discovery = require "luio.host.discovery"
local term = require "luio.text.term"

local PATIENCE = 2 -- seconds

-- ---- Kinds of values -----------------------------------------------------------------------------
-- Each adds what begins with the word, given what stands before it.

local kinds = {}

function kinds.device(add, state, word)
  local pci_only = state.command == "bind"
  for _, info in ipairs(discovery.list() or {}) do
    if not pci_only or info.can_bind then add(info.address) end
    if info.uio and not pci_only then add(info.uio) end
  end
  if state.command == "bind" or state.command == "unbind" then return end
  for _, name in ipairs(paths.names "model") do add("sim:" .. name) end
  -- QEMU is asked when one of its devices is meant.
  if word:match "^qemu:%.?%.?/" then return end -- a socket
  if not word:match "^qemu:" then return process.find(catalog.PROGRAM) and add "qemu:" end
  for _, device in ipairs(catalog.devices() or {}) do add("qemu:" .. device.name) end
end

local function info_of(address)
  if address:match "^sim:" then return { address = address, compatible = {} } end
  for _, info in ipairs(discovery.list() or {}) do
    if info.address == address or info.uio == address then return info end
  end
end

-- Whether a name on the line may be loaded. A word that is not entered yet is no choice of the user's, so a file that is named by
-- its path must be out of others' reach (luio.host.trust). Bare names are looked for in the user's folders, or luio's own
-- (luio.driver.paths).
local function safe(name, file)
  if name:match "%.lua$" then return trust.file(name) end
  return not name:match "/" or trust.file(("%s/%s.lua"):format(name, file))
end

-- The map that the command would use: the one that is named, else the driver's that matches. A map is Lua that runs. Nil, and
-- the command's message about the driver.
local function map_of(state)
  local named = state.given.map
  if named then
    if not safe(named, paths.find(named, "registers") and "registers" or "init") then return nil end
    return maps.load(named)
  end
  local address = state.given.device or state.given.address or ""
  local model = address:match "^sim:(.*)$"
  local offer = address:match "^qemu:([^,]*)"
  if offer then
    local name = folders.drivers()[offer] -- its ids are known once it is opened
    local found = name and require("luio.driver").load(name)
    return found and found.registers
  end
  local info = (not model or safe(model, "init")) and info_of(address)
  if not info then return nil end
  local name, fault = match.stated(info)
  if not name or fault then return nil, name and fault end
  local driver, why = require("luio.driver").load(model or name)
  if not driver then return nil, match.load_failure(name, why) end
  return driver.registers
end

local function places(options)
  return function(add, state, word)
    local map, why
    if not word:match "^%d" then map, why = map_of(state) end
    if why then add(":why " .. why:gsub("%s*\n%s*", "; ")) end
    for _, candidate in ipairs(complete_place(map, word, options)) do add(candidate) end
  end
end

kinds.place = places {}
kinds.assignment = places { assign = true }
kinds.condition = places { compare = true }

function kinds.driver(add)
  for _, name in ipairs(paths.names "init") do add(name) end
  add ":files lua"
end

function kinds.map(add)
  local added = {}
  for _, file in ipairs { "registers", "init" } do -- a driver may have its map within its own file
    for _, name in ipairs(paths.names(file)) do
      if not added[name] then add(name) end
      added[name] = true
    end
  end
  add ":files lua"
end

function kinds.kernel_driver(add)
  add "uio_pci_generic"
  add "vfio-pci"
end

function kinds.pattern(add)
  for _, word in ipairs { "address", "count", "random" } do add(word) end
end

function kinds.file(add, state)
  add(state.command == "import" and not state.option and ":files svd xml" or ":files")
end

function kinds.file_or_device(add, state, word)
  kinds.device(add, state, word)
  add ":files"
end

-- Completes the places of `luio dump --map FILE`, without a device.
function kinds.device_or_place(add, state, word)
  kinds.device(add, state, word)
  if state.given.map then kinds.place(add, state, word) end
end

-- By the name of the argument, or the long name of the option.
local KIND = {
  device = "device", address = "device", place = "place", capture = "place", assignment = "assignment", ack = "assignment",
  trigger = "assignment", ["until"] = "condition", driver = "driver", map = "map", file = "file", output = "file",
  fill = "pattern", before = "file", after = "file_or_device",
}
-- Where a name means something else.
local ELSEWHERE = { bind = { driver = "kernel_driver" }, dump = { device = "device_or_place" } }

-- ---- The text before the cursor ------------------------------------------------------------------

-- "--force-read" -> "force_read": the name of what an option or an argument gives.
local function name_of(element)
  for _, alias in ipairs(element._aliases or {}) do
    local long = alias:match "^%-%-(.+)$"
    if long then return (long:gsub("%-", "_")) end
  end
  return element._name
end

-- Options by name: "--map" -> option.
local function options_of(parser)
  local by_alias = {}
  for _, option in ipairs(parser._options) do
    if not option._hidden then
      for _, alias in ipairs(option._public_aliases) do by_alias[alias] = option end
    end
  end
  return by_alias
end

---@class luio.CompletionState
---@field command string
---@field parser table
---@field given table<string, string>  values of arguments and options, by name
---@field used table<table, boolean>   options
---@field option table?                whose value the last word is
---@field argument table?              that the last word would be
---@field plain boolean                after "--"

-- Goes through the words before the last as argparse would, as far as that matters here.
local function read(command, parser, words)
  local state = { command = command, parser = parser, given = {}, used = {}, plain = false }
  local by_alias, position, taken, pending = options_of(parser), 1, 0, 0
  local function descend(word)
    for _, sub in ipairs(state.parser._commands) do
      for _, alias in ipairs(sub._aliases) do
        if alias == word then
          state.parser, position, taken = sub, 1, 0
          for a, option in pairs(options_of(sub)) do by_alias[a] = option end
          return
        end
      end
    end
  end
  for i = 1, #words - 1 do
    local word = words[i]
    local option = not state.plain and pending == 0 and by_alias[word:match "^(%-%-[^=]+)=" or word]
    local argument = state.parser._arguments[position]
    if pending > 0 then
      state.given[name_of(state.option)] = word
      pending = pending - 1
    elseif word == "--" and not state.plain then
      state.plain = true
    elseif option then
      state.used[option] = true
      state.option = option
      if word:find("^%-%-[^=]+=") then state.given[name_of(option)] = word:match "=(.*)$"
      else pending = option._minargs end
    elseif argument and (state.plain or not word:match "^%-.") then
      state.given[name_of(argument)] = state.given[name_of(argument)] or word
      taken = taken + 1
      if taken >= argument._maxargs then position, taken = position + 1, 0 end
    elseif not argument then
      descend(word)
    end
  end
  if pending == 0 then state.option = nil end
  state.argument = state.parser._arguments[position]
  return state
end

-- ---- Candidates ----------------------------------------------------------------------------------

local function add_option_names(state, add, long_only)
  local seen = {}
  local parser = state.parser
  while parser do
    for _, option in ipairs(parser._options) do
      if not option._hidden and not seen[option] and not (state.used[option] and option._maxcount == 1) then
        seen[option] = true
        for _, alias in ipairs(option._public_aliases) do
          if not long_only or alias:match "^%-%-" then add(alias) end
        end
      end
    end
    parser = parser._parent
  end
end

local function add_values(state, element, add, word)
  if element._choices then
    for _, choice in ipairs(element._choices) do add(choice) end
    return
  end
  local name = name_of(element)
  local kind = (ELSEWHERE[state.command] or {})[name] or KIND[name]
  if kind then kinds[kind](add, state, word) end
end

-- Candidates for the last of a command's words.
local function argument(state, word, list)
  local function adding(before, prefix)
    return function(candidate)
      if candidate:match "^:files" or candidate:match "^:why " then list[#list + 1] = candidate
      elseif candidate:sub(1, #prefix) == prefix then list[#list + 1] = before .. candidate end
    end
  end
  local add = adding("", word)
  if state.option then return add_values(state, state.option, add, word) end
  local long, value = word:match "^(%-%-[^=]+)=(.*)$"
  if long and not state.plain then
    local option = options_of(state.parser)[long]
    if option and option._maxargs > 0 then
      state.option = option
      add_values(state, option, adding(long .. "=", value), value)
    end
    return
  end
  if word:match "^%-" and not state.plain then return add_option_names(state, add) end
  if state.argument then add_values(state, state.argument, add, word) end
  for _, sub in ipairs(not state.argument and state.parser._commands or {}) do
    for _, alias in ipairs(sub._public_aliases) do add(alias) end
  end
  if word == "" and not state.argument and not list[1] then add_option_names(state, add, true) end
end

-- Candidates for the last of the words behind "luio".
local function candidates(words, cli)
  local list = {}
  local word = words[#words] or ""
  local function commands(more)
    for _, row in ipairs(cli.commands) do
      if row[1]:sub(1, #word) == word then list[#list + 1] = row[1] end
    end
    for _, name in ipairs(more) do
      if word ~= "" and name:sub(1, #word) == word or name == "help" and word == "" then list[#list + 1] = name end
    end
  end
  if #words <= 1 then
    commands { "help", "--help", "--version" }
    -- luio FILE.lua: where the word is no command's beginning.
    if not list[1] then list[1] = ":files lua" end
    return list
  elseif words[1] == "help" then
    if #words == 2 then commands {} end
    return list
  elseif words[1]:match "%.lua$" then
    return { ":files" } -- a script's own
  end
  local command = cli.find(words[1])
  if not command then return list end
  argument(read(command.name, cli.parser(command), { unpack(words, 2) }), word, list)
  return list
end

local function run_complete(args, cli)
  local list = lua_process.run(PATIENCE, function() return candidates(args.words, cli) end)
  for _, candidate in ipairs(list or {}) do
    -- A name with a line's end in it would be two candidates; one that a terminal would obey is none.
    if term.clean(candidate) == candidate then term.print(candidate) end
  end
  return 0
end

-- ---- Scripts -------------------------------------------------------------------------------------

local scripts = {}

-- Bash splits words at : and = (COMP_WORDBREAKS), which addresses and assignments are full of; whether
-- they are put together again must not depend on the bash-completion package. So the line is cut here,
-- and each candidate loses the text up to the last such character, because bash replaces only
-- the text behind it.
scripts.bash = [==[
# luio(1) completion for bash: eval "$(luio completion bash)", or as a file in
# /usr/share/bash-completion/completions/.

_luio()
{
    local line="${COMP_LINE:0:COMP_POINT}" word= quote= c i n
    # Characters of the word before its last break; whether there is a word; whether it is behind < or >.
    local kept=0 begun= redirected=
    local -a words=()
    n=${#line}
    for ((i = 0; i < n; i++)); do
        c="${line:i:1}"
        if [[ $quote == "'" && $c != "'" ]]; then
            word+=$c
        elif [[ $c == "\\" && $quote != "'" ]]; then
            ((++i < n)) && word+="${line:i:1}"
            begun=1
        elif [[ -n $quote && $c == "$quote" ]]; then
            quote=
        elif [[ -z $quote && ($c == "'" || $c == '"') ]]; then
            quote=$c
            begun=1
            kept=${#word} # bash replaces what is behind the quote
        elif [[ -z $quote && $c == [[:blank:]\<\>] ]]; then
            # The number in 2>FILE is no word.
            [[ -n $begun && -z $redirected && ! ($c == [\<\>] && $word =~ ^[0-9]+$) ]] && words+=("$word")
            [[ -n $begun ]] && redirected=
            [[ $c == [\<\>] ]] && redirected=1
            word= begun= kept=0
        else
            word+=$c
            begun=1
            [[ -z $quote && $COMP_WORDBREAKS == *"$c"* ]] && kept=${#word}
        fi
    done
    COMPREPLY=()
    if [[ -n $redirected ]]; then
        _luio_files "$word" "$kept"
        return
    fi
    words+=("$word")

    local program="${words[0]/#\~\//$HOME/}" candidate why=
    while IFS= read -r candidate; do
        case $candidate in
            :files*) _luio_files "$word" "$kept" "${candidate#:files}" ;;
            :why*) why="${candidate#:why }" ;;
            *) COMPREPLY+=("${candidate:kept}") ;;
        esac
    done < <("$program" __complete -- "${words[@]:1}" 2>/dev/null)
    # Two that begin differently are listed, and nothing is inserted.
    [[ -n $why && ${#COMPREPLY[@]} -eq 0 ]] && COMPREPLY=("luio: $why" " ")
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[.=:[/] ]]; then
        compopt -o nospace 2>/dev/null
    fi
    compopt -o nosort 2>/dev/null # CHANNEL[10] comes after CHANNEL[9]
}

# Files that begin with $1 (behind --option=), the first $2 characters of which bash keeps; $3: their kinds.
_luio_files()
{
    local path="$1" before= file kind="${3-}"
    if [[ $path == --*=* ]]; then
        before="${path%%=*}="
        path="${path#*=}"
    fi
    while IFS= read -r file; do
        [[ -z $kind || "$kind " == *" ${file##*.} "* || -d ${file/#\~\//$HOME/} ]] || continue
        file="$before$file"
        COMPREPLY+=("${file:$2}")
    done < <(compgen -f -- "$path")
    compopt -o filenames 2>/dev/null
}

complete -F _luio luio
]==]

scripts.zsh = [==[
#compdef luio
# luio(1) completion for zsh: eval "$(luio completion zsh)" after compinit, or as a file _luio in a folder
# of $fpath, such as /usr/share/zsh/site-functions.

_luio()
{
    local program="${${(Q)words[1]}/#\~\//$HOME/}" candidate files
    local -a before closed open
    before=("${(@Q)words[2,CURRENT-1]}")
    for candidate in "${(@f)$("$program" __complete -- "${before[@]}" "${(Q)PREFIX}" 2>/dev/null)}"; do
        case $candidate in
            '') ;;
            :files*) files="$candidate" ;;
            :why*) _message -r "luio: ${candidate#:why }" ;;
            *[.=:/] | *\[) open+=("$candidate") ;;
            *) closed+=("$candidate") ;;
        esac
    done
    # -V: in our order, in which CHANNEL[10] comes after CHANNEL[9].
    compadd -V luio -- "${closed[@]}"
    compadd -V luio -S '' -- "${open[@]}"
    [[ -n $files ]] || return
    [[ $PREFIX == --*=* ]] && compset -P '*='
    # Behind the parentheses a qualifier, or they would be taken for one.
    if [[ $files == ':files '* ]]; then _files -g "*.(${${files#:files }// /|})(-.)"; else _files; fi
}

if [[ "${funcstack[1]}" == _luio ]]; then
    _luio "$@"
elif (( $+functions[compdef] )); then
    compdef _luio luio
else
    print -u2 'luio: completion needs: autoload -Uz compinit && compinit'
fi
]==]

local function run(args)
  term.write(scripts[args.shell])
  return 0
end

return {
  completion = {
    options = function(p)
      p:argument("shell", "The shell."):choices { "bash", "zsh" }
      p:epilog [[
Put the line into ~/.bashrc, or behind compinit into ~/.zshrc. After `make install` neither is needed.
Example: eval "$(luio completion bash)"
         eval "$(luio completion zsh)"]]
    end,
    run = run,
  },
  __complete = {
    options = function(p)
      p:argument("words", "The words behind luio. The last is completed."):args "*"
    end,
    run = run_complete,
  },
}
