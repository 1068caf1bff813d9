/* The declarations of decl/slirp.h, with what a C compiler needs around them. */
#ifndef RL_SLIRP_LOOP_H
#define RL_SLIRP_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "decl/slirp.h"

#endif
