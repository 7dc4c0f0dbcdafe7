/* What a raw guest and the Caxton router say to each other, version 1. No library is needed.
 *
 * A guest defines `caxton_on_message`, and answers with `caxton_reply`, `caxton_send`, `caxton_timer` or `caxton_fail`. Include this
 * header in exactly one file. All numbers are little-endian, as WebAssembly's are. */
#ifndef CAXTON_H
#define CAXTON_H

#include <stdint.h>

typedef uint32_t caxton_size;

/* The acts of FIPA SC00037, in alphabetical order. */
enum caxton_act {
    CAXTON_ACCEPT_PROPOSAL, CAXTON_AGREE, CAXTON_CANCEL, CAXTON_CFP, CAXTON_CONFIRM, CAXTON_DISCONFIRM, CAXTON_FAILURE,
    CAXTON_INFORM, CAXTON_INFORM_IF, CAXTON_INFORM_REF, CAXTON_NOT_UNDERSTOOD, CAXTON_PROPAGATE, CAXTON_PROPOSE, CAXTON_PROXY,
    CAXTON_QUERY_IF, CAXTON_QUERY_REF, CAXTON_REFUSE, CAXTON_REJECT_PROPOSAL, CAXTON_REQUEST, CAXTON_REQUEST_WHEN,
    CAXTON_REQUEST_WHENEVER, CAXTON_SUBSCRIBE, CAXTON_OTHER = 255
};

enum caxton_flag {
    CAXTON_FROM_ROUTER = 1, CAXTON_HAS_CONVERSATION = 2, CAXTON_HAS_REPLY_WITH = 4, CAXTON_HAS_IN_REPLY_TO = 8,
    CAXTON_HAS_REPLY_BY = 16, CAXTON_DURABLE = 32
};

enum caxton_level { CAXTON_TRACE, CAXTON_DEBUG, CAXTON_INFO, CAXTON_WARN, CAXTON_ERROR };

typedef struct { uint64_t low, high; } caxton_id;

/* A message as it lies in memory; the content is behind it. */
typedef struct {
    uint32_t length;
    uint8_t act, flags;
    uint16_t reserved;
    caxton_id id, sender, conversation;
    uint64_t reply_with, in_reply_to, reply_by_ms;
    uint32_t content_length;
    uint16_t protocol_length, language_length, ontology_length, encoding_length, act_length;
    uint16_t padding;
    uint8_t content[];
} caxton_message;
_Static_assert(sizeof(caxton_message) == 96, "a message has a head of 96 bytes");

/* What the router does for a guest. */
#define CAXTON_IMPORT(name) __attribute__((import_module("caxton"), import_name(name)))
CAXTON_IMPORT("now_ms") uint64_t caxton_now_ms(void);
CAXTON_IMPORT("random") uint64_t caxton_random(void);
CAXTON_IMPORT("log") void caxton_log(int32_t level, const void *text, caxton_size bytes);
CAXTON_IMPORT("discover") int32_t caxton_discover(const void *capability, caxton_size bytes, caxton_id *out, caxton_size most);
CAXTON_IMPORT("get") int32_t caxton_get(const void *key, caxton_size bytes, void *out, caxton_size most);
CAXTON_IMPORT("put") int32_t caxton_put(const void *key, caxton_size bytes, const void *value, int32_t length);

/* Handles one message. What it does about it, it says with the functions below. */
static void caxton_on_message(const caxton_message *message);

/* The heap of the guest begins where its own data ends: first the messages of a call, then the actions. */
extern uint8_t __heap_base;
static uint8_t *caxton_in, *caxton_out_first, *caxton_out, *caxton_end;
static uint32_t caxton_number;

static int caxton_reserve(uint8_t *end) {
    caxton_size pages = ((caxton_size)(uintptr_t)end + 65535) / 65536, have = __builtin_wasm_memory_size(0);
    if (pages > have && __builtin_wasm_memory_grow(0, pages - have) == (caxton_size)-1) return 0;
    if (end > caxton_end) caxton_end = end;
    return 1;
}

__attribute__((export_name("caxton_buffer_v1"))) void *caxton_buffer_v1(caxton_size bytes) {
    caxton_in = (uint8_t *)(((uintptr_t)&__heap_base + 7) & ~(uintptr_t)7);
    caxton_out_first = caxton_in + ((bytes + 7) & ~(caxton_size)7);
    return caxton_reserve(caxton_out_first) ? caxton_in : 0;
}

/* Room for an action of so many bytes; its head is filled in. A guest without memory for it traps. */
static uint8_t *caxton_action(uint32_t kind, caxton_size bytes) {
    uint8_t *at = caxton_out;
    caxton_size padded = (bytes + 7) & ~(caxton_size)7;
    if (!caxton_reserve(at + padded)) __builtin_trap();
    caxton_out += padded;
    ((uint32_t *)at)[0] = bytes;
    ((uint32_t *)at)[1] = kind;
    ((uint32_t *)at)[2] = caxton_number;
    return at;
}

/* Answers the message that is being handled, in its conversation. */
static inline void caxton_reply(enum caxton_act act, const void *content, caxton_size bytes) {
    uint8_t *at = caxton_action(2, 20 + bytes);
    ((uint32_t *)at)[3] = (uint32_t)act;
    ((uint32_t *)at)[4] = bytes;
    __builtin_memcpy(at + 20, content, bytes);
}

/* Says that the message could not be handled: it is tried again or given up, and nothing is sent because of it. */
static inline void caxton_fail(const char *text, caxton_size bytes) {
    uint8_t *at = caxton_action(1, 16 + bytes);
    ((uint32_t *)at)[3] = bytes;
    __builtin_memcpy(at + 16, text, bytes);
}

/* Has a message delivered to the guest itself after so long, with the ontology caxton-timer. */
static inline void caxton_timer(uint32_t after_ms, const void *content, caxton_size bytes) {
    uint8_t *at = caxton_action(4, 20 + bytes);
    ((uint32_t *)at)[3] = after_ms;
    ((uint32_t *)at)[4] = bytes;
    __builtin_memcpy(at + 20, content, bytes);
}

/* Sends a message to the agent of this name. */
static inline void caxton_send(enum caxton_act act, const char *name, uint16_t name_bytes, const void *content, caxton_size bytes) {
    uint8_t *at = caxton_action(3, 88 + bytes + name_bytes);
    __builtin_memset(at + 12, 0, 76);
    at[12] = (uint8_t)act;
    at[13] = 1;
    ((uint32_t *)at)[18] = bytes;
    ((uint16_t *)at)[38] = name_bytes;
    __builtin_memcpy(at + 88, content, bytes);
    __builtin_memcpy(at + 88 + bytes, name, name_bytes);
}

__attribute__((export_name("caxton_handle_v1"))) uint64_t caxton_handle_v1(const uint8_t *at, caxton_size length) {
    uint32_t count = ((const uint32_t *)at)[1];
    (void)length;
    caxton_out = caxton_out_first;
    at += 32;
    for (caxton_number = 0; caxton_number < count; caxton_number++) {
        const caxton_message *message = (const caxton_message *)at;
        caxton_on_message(message);
        at += message->length;
    }
    caxton_size answered = (caxton_size)(caxton_out - caxton_out_first);
    return (uint64_t)(uintptr_t)caxton_out_first << 32 | answered;
}

#endif
