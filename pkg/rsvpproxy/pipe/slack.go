package pipe

// Slack is the part of what is needed that a reservation has to have: what came over
// the wire was rounded to single precision, and sums are rounded too.
const Slack = 1 - 1e-6
