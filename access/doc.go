// Package access decides who may use a point. It hides how tokens are made,
// kept and checked, how much each may still be used for, and how an operator's
// own service is asked.
//
// There are two kinds of token. An issued token is given to a person by an
// operator ([Tokens.Issue]); a point keeps its hash. A minted token is given to
// two peers by a point, for one meeting ([Minter.Mint]); it is believed for
// its MAC, so that every point with the same secret takes it, and nothing is
// kept.
//
// A [Gate] puts them together under a [Policy]. It is closed if nothing is
// said. It knows neither protocol nor socket: those who serve ask it.
package access
