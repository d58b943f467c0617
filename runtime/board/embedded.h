/* embedded.h - for main.c, of a program with its Lua modules in it (board/embedded.c). */
#ifndef LUIO_EMBEDDED_H
#define LUIO_EMBEDDED_H

#include <lua.h>

/* Lets a state find the modules in the program, and the library below `root`: where lib/ and share/ are. */
void embedded_open(lua_State *L, const char *root);

#endif
