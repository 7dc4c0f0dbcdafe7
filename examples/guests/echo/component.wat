;; An agent that answers every request and every query with an inform of the same content: the core of a component of the world
;; caxton:agent/agent@1.0.0, with names and layouts as the canonical ABI has them.
(module
  ;; reply(performative: case, its word's place and length; content's place and length; where the answer goes)
  (import "caxton:agent/router@1.0.0" "reply" (func $reply (param i32 i32 i32 i32 i32 i32)))
  (memory (export "memory") 1)
  ;; What the router puts into memory begins here, and is forgotten when a call is over.
  (global $base i32 (i32.const 1024))
  (global $heap (mut i32) (i32.const 1024))

  (func (export "cabi_realloc") (param $old i32) (param $before i32) (param $align i32) (param $bytes i32) (result i32)
    (local $at i32) (local $pages i32)
    (local.set $at
      (i32.and
        (i32.sub (i32.add (global.get $heap) (local.get $align)) (i32.const 1))
        (i32.sub (i32.const 0) (local.get $align))))
    (global.set $heap (i32.add (local.get $at) (local.get $bytes)))
    (local.set $pages (i32.add (i32.const 1) (i32.shr_u (global.get $heap) (i32.const 16))))
    (if (i32.gt_u (local.get $pages) (memory.size))
      (then
        (if (i32.eq (memory.grow (i32.sub (local.get $pages) (memory.size))) (i32.const -1))
          (then (unreachable)))))
    (if (local.get $before)
      (then (memory.copy (local.get $at) (local.get $old) (local.get $before))))
    (local.get $at))

  ;; The answers lie at 16: ok is 0.
  (func (export "start") (result i32)
    (i32.store8 (i32.const 16) (i32.const 0))
    (i32.const 16))

  ;; The message: performative at 16, from-router at 48, content at 176.
  (func (export "handle") (param $message i32) (result i32)
    (local $act i32)
    (local.set $act (i32.load8_u offset=16 (local.get $message)))
    (if
      (i32.and
        (i32.or
          (i32.or (i32.eq (local.get $act) (i32.const 14)) (i32.eq (local.get $act) (i32.const 15)))
          (i32.eq (local.get $act) (i32.const 18)))
        (i32.eqz (i32.load8_u offset=48 (local.get $message))))
      (then
        (call $reply
          (i32.const 7) (i32.const 0) (i32.const 0)
          (i32.load offset=176 (local.get $message)) (i32.load offset=180 (local.get $message))
          (i32.const 64))
        ;; Not sent: the message failed, and the router tries it again.
        (if (i32.load8_u (i32.const 64))
          (then
            (i32.store8 (i32.const 16) (i32.const 1))
            (i32.store (i32.const 20) (i32.const 512))
            (i32.store (i32.const 24) (i32.const 26))
            (return (i32.const 16))))))
    (i32.store8 (i32.const 16) (i32.const 0))
    (i32.const 16))
  (func (export "cabi_post_handle") (param i32)
    (global.set $heap (global.get $base)))

  (func (export "stop"))
  (data (i32.const 512) "the reply was not accepted"))
