/* Takes part in contract-net negotiations (FIPA SC00029): proposes for every call, and does what it is awarded. How often it was
 * awarded something is remembered beyond a restart. */
#include "caxton.h"

static void caxton_on_message(const caxton_message *message) {
    static const char key[] = "awarded";
    uint32_t awarded = 0;
    if (message->flags & CAXTON_FROM_ROUTER) return;
    switch (message->act) {
    case CAXTON_CFP:
        caxton_reply(CAXTON_PROPOSE, message->content, message->content_length);
        break;
    case CAXTON_ACCEPT_PROPOSAL:
        caxton_get(key, sizeof key - 1, &awarded, sizeof awarded);
        awarded++;
        if (caxton_put(key, sizeof key - 1, &awarded, sizeof awarded) != 0) {
            static const char full[] = "the award can't be remembered";
            caxton_fail(full, sizeof full - 1);
            return;
        }
        caxton_reply(CAXTON_INFORM, message->content, message->content_length);
        break;
    default:
        break;
    }
}
