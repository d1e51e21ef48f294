//! What the runtime computes from a written image is what the contract says, element for element, and what the simulation
//! says, to a step.
