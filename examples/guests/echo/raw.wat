;; An agent that answers every request and every query with an inform of the same content, as a raw module.
;;
;; Memory: the answers of one call are built behind the messages of that call. Nothing outlives a call.
(module
  (memory (export "memory") 1)
  ;; Where messages are written, and how many bytes of them there may be.
  (global $buffer i32 (i32.const 1024))
  (global $bytes (mut i32) (i32.const 0))

  ;; Makes room for so many bytes of messages, and for twice as many of answers.
  (func (export "caxton_buffer_v1") (param $bytes i32) (result i32)
    (local $pages i32)
    (local.set $pages
      (i32.add (i32.const 1)
        (i32.shr_u (i32.add (global.get $buffer) (i32.mul (local.get $bytes) (i32.const 3))) (i32.const 16))))
    (if (i32.gt_u (local.get $pages) (memory.size))
      (then
        (if (i32.eq (memory.grow (i32.sub (local.get $pages) (memory.size))) (i32.const -1))
          (then (return (i32.const 0))))))
    (global.set $bytes (local.get $bytes))
    (global.get $buffer))

  (func (export "caxton_handle_v1") (param $at i32) (param $length i32) (result i64)
    (local $count i32) (local $number i32) (local $act i32) (local $content i32)
    (local $out i32) (local $first i32) (local $size i32)
    (local.set $first (i32.add (global.get $buffer) (global.get $bytes)))
    (local.set $out (local.get $first))
    (local.set $count (i32.load offset=4 (local.get $at)))
    (local.set $at (i32.add (local.get $at) (i32.const 32)))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $number) (local.get $count)))
        (local.set $act (i32.load8_u offset=4 (local.get $at)))
        ;; query-if, query-ref and request, unless they come from the router itself
        (if
          (i32.and
            (i32.or
              (i32.or (i32.eq (local.get $act) (i32.const 14)) (i32.eq (local.get $act) (i32.const 15)))
              (i32.eq (local.get $act) (i32.const 18)))
            (i32.eqz (i32.and (i32.load8_u offset=5 (local.get $at)) (i32.const 1))))
          (then
            (local.set $content (i32.load offset=80 (local.get $at)))
            (local.set $size (i32.add (i32.const 20) (local.get $content)))
            (i32.store (local.get $out) (local.get $size))
            (i32.store offset=4 (local.get $out) (i32.const 2)) ;; reply
            (i32.store offset=8 (local.get $out) (local.get $number))
            (i32.store offset=12 (local.get $out) (i32.const 7)) ;; inform
            (i32.store offset=16 (local.get $out) (local.get $content))
            (memory.copy
              (i32.add (local.get $out) (i32.const 20))
              (i32.add (local.get $at) (i32.const 96))
              (local.get $content))
            (local.set $out
              (i32.and (i32.add (i32.add (local.get $out) (local.get $size)) (i32.const 7)) (i32.const -8)))))
        (local.set $at (i32.add (local.get $at) (i32.load (local.get $at))))
        (local.set $number (i32.add (local.get $number) (i32.const 1)))
        (br $next)))
    (i64.or
      (i64.shl (i64.extend_i32_u (local.get $first)) (i64.const 32))
      (i64.extend_i32_u (i32.sub (local.get $out) (local.get $first))))))
