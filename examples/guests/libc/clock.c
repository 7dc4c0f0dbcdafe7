/* Answers every request with an inform that says what time it is. An agent with the C library: printf, time and nanosleep work, because
 * clock.toml asks for them. It is the core of a component of the world caxton:agent/agent@1.0.0, with names and layouts as the
 * canonical ABI has them. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EXPORT(name) __attribute__((export_name(name)))
#define IMPORT(name) __attribute__((import_module("caxton:agent/router@1.0.0"), import_name(name)))

enum { INFORM = 7, REQUEST = 18 };

/* result<_, string> */
typedef struct {
    uint8_t failed;
    const char *text;
    size_t length;
} result;

/* As much of a message as is looked at here. */
typedef struct {
    uint8_t before[16];
    uint8_t act;
    uint8_t between[31];
    uint8_t from_router;
} message;

_Static_assert(offsetof(message, from_router) == 48, "as the canonical ABI has it");

/* reply(performative: case, its word's place and length; content's place and length; where the answer goes) */
IMPORT("reply") void reply(int32_t act, const char *word, size_t word_length, const void *content, size_t length, void *answer);

/* Where messages lie while they are handled. */
static _Alignas(8) uint8_t room[128 << 10];
static size_t used;

EXPORT("cabi_realloc") void *for_messages(void *old, size_t before, size_t align, size_t bytes) {
    used = (used + align - 1) / align * align;
    if (bytes > sizeof room - used) abort();
    void *place = room + used;
    used += bytes;
    if (before) memcpy(place, old, before < bytes ? before : bytes);
    return place;
}

/* What stays, for the adapter from the first WASI. */
EXPORT("cabi_realloc_adapter") void *for_good(void *old, size_t before, size_t align, size_t bytes) {
    (void)before, (void)align;
    void *place = realloc(old, bytes);
    if (!place) abort();
    return place;
}

static result done;

EXPORT("start") const result *start(void) {
    /* There is no terminal, and then the library keeps lines back until many have come together. */
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    puts("started");
    return &done;
}

EXPORT("handle") const result *handle(const message *message) {
    static const result refused = { 1, "the reply was not accepted", 26 };
    if (message->act != REQUEST || message->from_router) return &done;
    /* Others have their turn meanwhile. */
    nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
    time_t now = time(NULL);
    char text[64];
    size_t length = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", gmtime(&now));
    printf("it is %s\n", text);
    uint8_t answer[64];
    reply(INFORM, NULL, 0, text, length, answer);
    return answer[0] ? &refused : &done;
}

EXPORT("cabi_post_handle") void forget(const result *result) {
    (void)result;
    used = 0;
}

EXPORT("stop") void stop(void) {}
