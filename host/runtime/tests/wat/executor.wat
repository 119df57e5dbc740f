;; A task executor with one action, `run`. A test puts its own text at the three marks: fields of the core module, the body of `run`,
;; and fields of the component. The body runs before the answer `1` is given.
(component
  (core module $main
    (memory (export "memory") 1)
    (data (i32.const 0) "run1")
    ;; The list of actions: (pointer, length), then one action of 28 bytes.
    (data (i32.const 16) "\20\00\00\00\01\00\00\00")
    (data (i32.const 32) "\00\00\00\00\03\00\00\00\00\00\00\00\03\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00")
    ;; The answer: `ok`, with a list of one byte.
    (data (i32.const 64) "\00\00\00\00\00\00\00\00\03\00\00\00\01\00\00\00")
    (global $free (mut i32) (i32.const 1024))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
      (global.set $free (i32.add (local.get $at) (local.get 3)))
      (local.get $at))
    (func (export "actions") (result i32) (i32.const 16))
    ;;FIELDS;;
    (func (export "execute")
      (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i64) (result i32)
      ;;BODY;;
      (i32.const 64)))
  ;;COMPONENT;;
  (core instance $main (instantiate $main))
  (type $action (record (field "name" string) (field "description" string) (field "input-schema" (option string))))
  (type $request (record
    (field "action" string) (field "input" (list u8)) (field "config" (list u8)) (field "execution-id" string)
    (field "task" string) (field "idempotency-key" string) (field "attempt" u32) (field "timeout-ms" u64)))
  (type $failure (record (field "code" string) (field "message" string) (field "details" (option (list u8)))))
  (type $transient (record (field "failure" $failure) (field "retry-after-ms" (option u64))))
  (type $error (variant
    (case "invalid-input" string) (case "unknown-action" string) (case "failed" $failure) (case "unavailable" $transient)))
  (func $actions (result (list $action)) (canon lift (core func $main "actions") (memory (core memory $main "memory"))))
  (func $execute (param "request" $request) (result (result (list u8) (error $error)))
    (canon lift (core func $main "execute") (memory (core memory $main "memory")) (realloc (core func $main "realloc"))))
  ;; An exported function may use named types only, and it is here that they get their names.
  (component $executor
    (import "type-action" (type $a (eq $action)))
    (import "type-request" (type $r (eq $request)))
    (import "type-failure" (type $f (eq $failure)))
    (type $transient-in (record (field "failure" $f) (field "retry-after-ms" (option u64))))
    (import "type-transient" (type $t (eq $transient-in)))
    (type $error-in (variant
      (case "invalid-input" string) (case "unknown-action" string) (case "failed" $f) (case "unavailable" $t)))
    (import "type-error" (type $e (eq $error-in)))
    (import "func-actions" (func $actions (result (list $a))))
    (import "func-execute" (func $execute (param "request" $r) (result (result (list u8) (error $e)))))
    (export $action-out "action" (type $a))
    (export $request-out "request" (type $r))
    (export $failure-out "failure" (type $f))
    (type $transient-new (record (field "failure" $failure-out) (field "retry-after-ms" (option u64))))
    (export $transient-out "transient-failure" (type $transient-new))
    (type $error-new (variant
      (case "invalid-input" string) (case "unknown-action" string)
      (case "failed" $failure-out) (case "unavailable" $transient-out)))
    (export $error-out "task-error" (type $error-new))
    (export "actions" (func $actions) (func (result (list $action-out))))
    (export "execute" (func $execute)
      (func (param "request" $request-out) (result (result (list u8) (error $error-out))))))
  (instance $exported (instantiate $executor
    (with "type-action" (type $action)) (with "type-request" (type $request)) (with "type-failure" (type $failure))
    (with "type-transient" (type $transient)) (with "type-error" (type $error))
    (with "func-actions" (func $actions)) (with "func-execute" (func $execute))))
  (export "compozy:task/executor@0.1.0" (instance $exported)))
