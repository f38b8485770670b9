/* SPDX-License-Identifier: MIT */
/*
 * fork.h - no fork() between a file's opening and its being known
 *
 * A child closes the files that the library knows (device/fork.c). One that another thread has just
 * opened, or is about to close, would be missed, and O_CLOEXEC is of no help without exec(). So who
 * opens or closes such files holds forks back meanwhile: fork() waits. Many may hold at a time.
 */
#ifndef BASE_FORK_H
#define BASE_FORK_H

/* May be nested. Lines of the log are kept back, too: their reader may have a lock that fork() takes. */
void fork_hold(void);
void fork_release(void);

/* What pthread_atfork() is to call. */
void fork_before(void);
void fork_in_parent(void);
void fork_in_child(void);

#endif
