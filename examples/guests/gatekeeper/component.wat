;; A routing plugin: the core of a component of the world caxton:routing/plugin@1.0.0. It refuses every cancel, sends what is longer than
;; 1000 bytes to the agent archive, marks what begins with a question mark with X-asked, and lets everything else pass.
;;
;; A message that begins with ! makes it trap, and one that begins with a minus sign makes it run for ever: for trying out what becomes
;; of messages over which a plugin fails.
(module
  (import "caxton:routing/current@1.0.0" "content" (func $content (param i64 i64 i32)))
  (memory (export "memory") 1)
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
    (local.get $at))

  ;; The verdict lies at 16: its case, and behind it a text or a list.
  (func $verdict (param $case i32) (param $at i32) (param $length i32) (result i32)
    (i32.store8 (i32.const 16) (local.get $case))
    (i32.store (i32.const 20) (local.get $at))
    (i32.store (i32.const 24) (local.get $length))
    (i32.const 16))

  ;; The header: performative at 0, length of the content at 136.
  (func (export "route") (param $header i32) (result i32)
    (local $first i32)
    (if (i32.and
          (i32.eq (i32.load offset=4 (local.get $header)) (i32.const 6))
          (i32.eq (i32.load8_u (i32.load (local.get $header))) (i32.const 99)))
      (then (return (call $verdict (i32.const 3) (i32.const 512) (i32.const 17)))))
    (if (i64.gt_u (i64.load offset=136 (local.get $header)) (i64.const 1000))
      (then (return (call $verdict (i32.const 1) (i32.const 544) (i32.const 7)))))
    (call $content (i64.const 0) (i64.const 1) (i32.const 32))
    (if (i32.load (i32.const 36))
      (then (local.set $first (i32.load8_u (i32.load (i32.const 32))))))
    (if (i32.eq (local.get $first) (i32.const 63))
      (then (return (call $verdict (i32.const 4) (i32.const 640) (i32.const 1)))))
    (if (i32.eq (local.get $first) (i32.const 33)) (then (unreachable)))
    (if (i32.eq (local.get $first) (i32.const 45)) (then (loop $ever (br $ever))))
    (call $verdict (i32.const 0) (i32.const 0) (i32.const 0)))
  (func (export "cabi_post_route") (param i32)
    (global.set $heap (i32.const 1024)))

  (data (i32.const 512) "no cancelling now")
  (data (i32.const 544) "archive")
  (data (i32.const 576) "X-asked")
  (data (i32.const 592) "yes")
  ;; One pair of texts, each by place and length.
  (data (i32.const 640) "\40\02\00\00\07\00\00\00\50\02\00\00\03\00\00\00"))
