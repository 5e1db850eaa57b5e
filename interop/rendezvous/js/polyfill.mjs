// Promise.withResolvers is part of Node.js 22 and of every libp2p since 2025.
Promise.withResolvers ??= function () {
  let resolve, reject
  const promise = new Promise((a, b) => { resolve = a; reject = b })
  return { promise, resolve, reject }
}
