/* Answers every request and every query with an inform of the same content. */
#include "caxton.h"

static void caxton_on_message(const caxton_message *message) {
    if (message->flags & CAXTON_FROM_ROUTER) return;
    switch (message->act) {
    case CAXTON_QUERY_IF:
    case CAXTON_QUERY_REF:
    case CAXTON_REQUEST:
        caxton_reply(CAXTON_INFORM, message->content, message->content_length);
    }
}
