/* main.c - the luio program: LuaJIT, the paths to luio's modules, and the command line in Lua.
 *
 * The program finds the modules relative to its own path: build/luio has them in lua/ of the source tree,
 * PREFIX/bin/luio in PREFIX/share/lua/5.1. So a tree can be moved, and DESTDIR needs no special case. A program that
 * was built outside of its source tree (make BUILD=) takes the modules from that tree (LUIO_SOURCE). The program of
 * `make dist` contains them. The command line is lua/luio/tool/cli/; lua/luio/compiler/ keeps the compiler from code
 * that it compiles wrongly.
 *
 * Modules come from absolute folders only: these, those of LUA_PATH and LUA_CPATH, and LuaJIT's own. LuaJIT's default
 * begins with the current folder, so root would run another user's ./luv.lua. An absolute folder in LUA_PATH is the
 * user's choice (sudo removes LUA_PATH). A relative one is ignored, because its meaning depends on the current folder.
 *
 * `luio run` is two processes (guardian.c). The fork is here, before LuaJIT is started, so that the
 * guardian is small and every worker starts from the same clean state. */
#include "descriptors.h"
#include "guard.h"
#ifdef LUIO_EMBEDDED
#include "board/embedded.h"
#endif

#include <errno.h>
#include <lauxlib.h>
#include <libgen.h>
#include <limits.h>
#include <lua.h>
#include <lualib.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* The folder the program is in, two up: the source tree, or PREFIX. */
static int find_root(char *root, size_t size)
{
  ssize_t n = readlink("/proc/self/exe", root, size - 1);
  if (n < 0 || (size_t)n >= size - 1)
    return -1;
  root[n] = '\0';
  for (int i = 0; i < 2; i++) {
    char *slash = strrchr(root, '/');
    if (!slash)
      return -1;
    *slash = '\0';
  }
  return 0;
}

#ifdef LUIO_EMBEDDED
#define add_paths embedded_open
#else
static bool has_modules(const char *root, const char *sub)
{
  char marker[PATH_MAX + 64];
  snprintf(marker, sizeof marker, "%s/%s/luio/init.lua", root, sub);
  return access(marker, R_OK) == 0;
}

#ifdef LUIO_SOURCE
/* The library beside the program, for lua/luio/ffi.lua. */
static int library(lua_State *L)
{
  char path[PATH_MAX];
  ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
  if (n < 0 || (size_t)n >= sizeof path - 1)
    return 0;
  path[n] = '\0';
  lua_pushfstring(L, "%s/libluio.so", dirname(path));
  return 1;
}

/* A program built outside of its source tree takes that tree's modules, unless it has been installed since. */
static const char *source_of(lua_State *L, const char *root)
{
  if (has_modules(root, "lua") || has_modules(root, "share/lua/5.1"))
    return root;
  if (!getenv("LUIO_LIBRARY")) {
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "preload");
    lua_pushcfunction(L, library);
    lua_setfield(L, -2, "luio.library");
    lua_pop(L, 2);
  }
  return LUIO_SOURCE;
}
#else
static const char *source_of(lua_State *L, const char *root)
{
  (void)L;
  return root;
}
#endif

static void add_paths(lua_State *L, const char *root)
{
  root = source_of(L, root);
  const char *sub = has_modules(root, "lua") ? "lua" : "share/lua/5.1";
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "path");
  lua_pushfstring(L, "%s/%s/?.lua;%s/%s/?/init.lua;%s", root, sub, root, sub, lua_tostring(L, -1));
  lua_setfield(L, -3, "path");
  lua_pop(L, 2);
}
#endif

/* Leaves only entries that begin with / in a field of `package`: "path" or "cpath". Each is behind a ';' but the first. */
static void only_absolute(lua_State *L, const char *field)
{
  lua_getglobal(L, "package");
  lua_getfield(L, -1, field);
  lua_pushliteral(L, "");
  for (const char *entry = lua_tostring(L, -2); entry && *entry;) {
    size_t n = strcspn(entry, ";");
    if (*entry == '/') {
      if (lua_objlen(L, -1) > 0)
        lua_pushliteral(L, ";");
      else
        lua_pushliteral(L, "");
      lua_pushlstring(L, entry, n);
      lua_concat(L, 3);
    }
    entry += n + (entry[n] == ';');
  }
  lua_setfield(L, -3, field);
  lua_pop(L, 2);
}

/* require(name): the module or the error is on the stack. */
static int load(lua_State *L, const char *name)
{
  lua_settop(L, 0);
  lua_getglobal(L, "require");
  lua_pushstring(L, name);
  return lua_pcall(L, 1, 1, 0);
}

/* `luio run`, unless it is only to say something, or told to do without. */
static bool wants_guardian(int argc, char **argv)
{
  if (argc < 3 || strcmp(argv[1], "run"))
    return false;
  for (int i = 2; i < argc; i++)
    if (!strcmp(argv[i], "--no-guardian") || !strcmp(argv[i], "-h") || !strcmp(argv[i], "--help"))
      return false;
  return true;
}

/* Every command needs fewer than this. With less room it would be a matter of luck which step fails,
 * and some of them abort: libuv's loops, Lua's require. */
#define DESCRIPTORS 32

static bool has_descriptors(void)
{
  struct rlimit limit = {.rlim_cur = 0};
  int rc = luio_room(DESCRIPTORS);
  if (rc == 0)
    return true;
  getrlimit(RLIMIT_NOFILE, &limit);
  if (rc == -EMFILE)
    fprintf(stderr,
            "luio: EMFILE: too many open files: luio needs %d beside those that are open, and "
            "`ulimit -n` is "
            "%llu: raise it\n",
            DESCRIPTORS, (unsigned long long)limit.rlim_cur);
  else
    fprintf(stderr, "luio: open %d files: %s%s\n", DESCRIPTORS, strerror(-rc),
            rc == -ENFILE ? ": raise the system's limit (sysctl fs.file-max)" : "");
  return false;
}

int main(int argc, char **argv)
{
  if (!has_descriptors())
    return 1;
  if (wants_guardian(argc, argv)) {
    int result = guardian();
    if (result >= 0)
      return result;
  }
  char root[PATH_MAX];
  if (find_root(root, sizeof root) < 0) {
    fprintf(stderr, "luio: read /proc/self/exe: %s: is /proc mounted?\n", strerror(errno));
    return 1;
  }
#ifndef LUIO_EMBEDDED
  if (strpbrk(root, ";?")) {
    fprintf(stderr, "luio: %s: a folder that Lua modules are in can't have ; or ? in its name\n",
            root);
    return 1;
  }
#endif
  lua_State *L = luaL_newstate();
  if (!L) {
    fprintf(stderr, "luio: start LuaJIT: out of memory\n");
    return 1;
  }
  luaL_openlibs(L);
  add_paths(L, root);
  only_absolute(L, "path");
  only_absolute(L, "cpath");
  lua_createtable(L, argc, 1);
  for (int i = 0; i < argc; i++) {
    lua_pushstring(L, argv[i]);
    lua_rawseti(L, -2, i);
  }
  lua_setglobal(L, "arg");
  /* Before any other Lua: some builds of LuaJIT compile ordinary code wrongly. */
  int rc = load(L, "luio.compiler");
  /* cli.main never raises: it returns the exit status. */
  if (rc == 0)
    rc = load(L, "luio.tool.cli");
  if (rc == 0) {
    lua_getfield(L, -1, "main");
    lua_getglobal(L, "arg");
    rc = lua_pcall(L, 1, 1, 0);
  }
  int status = rc == 0 ? (int)lua_tointeger(L, -1) : 1;
  if (rc)
    fprintf(stderr, "luio: %s\n", lua_tostring(L, -1));
  lua_close(L);
  /* print() does not look: a full disk must not pass for success. */
  int failed = fflush(stdout);
  if (failed || ferror(stdout)) {
    fprintf(stderr, "luio: standard output: %s\n", failed ? strerror(errno) : "a write failed");
    return status ? status : 1;
  }
  return status;
}
