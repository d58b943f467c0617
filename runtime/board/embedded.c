/* embedded.c - a program that contains its Lua modules: `make dist`.
 *
 * luv and lxp are linked in, and so are luio's modules and those that it needs, as text (embed). A
 * searcher of its own finds them, before any file. Threads that luv starts, a model's among them, have
 * Lua states of their own; a callback makes luv create them like ours. */
#include "embedded.h"

#include <lauxlib.h>
#include <limits.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* expat's, for the seed of a hash. The C library's own would be the only thing that asks for glibc 2.36. */
void arc4random_buf(void *out, size_t size)
{
  while (size > 0) {
    ssize_t n = getrandom(out, size < 256 ? size : 256, 0);
    if (n > 0) {
      out = (char *)out + n;
      size -= (size_t)n;
    }
  }
}

struct module {
  const char *name, *file, *text;
  size_t size;
};
extern const struct module luio_embedded[];

int luaopen_luv(lua_State *L);
int luaopen_lxp(lua_State *L);
void luv_set_thread_cb(lua_State *(*acquire)(void), void (*release)(lua_State *));

static int search(lua_State *L)
{
  const char *name = luaL_checkstring(L, 1);
  for (const struct module *m = luio_embedded; m->name; m++)
    if (!strcmp(m->name, name))
      return luaL_loadbuffer(L, m->text, m->size, m->file) == 0 ? 1 : lua_error(L);
  lua_pushfstring(L, "\n\tno module '%s' in the program", name);
  return 1;
}

static void preload(lua_State *L, const char *name, lua_CFunction open)
{
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "preload");
  lua_pushcfunction(L, open);
  lua_setfield(L, -2, name);
  lua_pop(L, 2);
}

/* Second of package.loaders: behind package.preload. */
static void add_searcher(lua_State *L)
{
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "loaders");
  for (int i = (int)lua_objlen(L, -1); i >= 2; i--) {
    lua_rawgeti(L, -1, i);
    lua_rawseti(L, -2, i + 1);
  }
  lua_pushcfunction(L, search);
  lua_rawseti(L, -2, 2);
  lua_pop(L, 2);
}

static void equip(lua_State *L)
{
  preload(L, "lxp", luaopen_lxp);
  add_searcher(L);
}

/* As luv makes one itself, and equipped: with luv open, by which it finds its own things in a state. */
static lua_State *acquire(void)
{
  lua_State *L = luaL_newstate();
  if (!L) {
    fputs("luio: start a thread: out of memory\n", stderr);
    abort(); /* luv does not look */
  }
  luaL_openlibs(L);
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "loaded");
  luaopen_luv(L);
  lua_setfield(L, -2, "luv");
  lua_pop(L, 2);
  equip(L);
  return L;
}

static int library(lua_State *L)
{
  lua_pushvalue(L, lua_upvalueindex(1));
  return 1;
}

void embedded_open(lua_State *L, const char *root)
{
  equip(L);
  preload(L, "luv", luaopen_luv);
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "preload");
  lua_pushfstring(L, "%s/lib/luio/libluio.so.0", root);
  lua_pushcclosure(L, library, 1);
  lua_setfield(L, -2, "luio.library"); /* luio.ffi asks for it */
  lua_pop(L, 2);
  luv_set_thread_cb(acquire, lua_close);
  /* libedit wants to know the terminal; where there is no database, ours has the usual ones. */
  char terminals[PATH_MAX + 32];
  snprintf(terminals, sizeof terminals, ":%s/share/luio/terminfo", root);
  setenv("TERMINFO_DIRS", terminals, 0);
}
