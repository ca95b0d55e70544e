package webhooktest

// Always gives every arrival the same answer.
func Always(answer Answer) Script {
	return func(Arrival) Answer { return answer }
}

// FirstAttempts gives the first n attempts of every event the one answer, and all later ones 204.
func FirstAttempts(n int, answer Answer) Script {
	return func(a Arrival) Answer {
		if a.Attempt <= n {
			return answer
		}
		return Answer{}
	}
}

// FirstArrivals gives the first n arrivals of any event the one answer, and all later ones 204. The count
// begins with the script. A receiver calls its script for one arrival at a time.
func FirstArrivals(n int, answer Answer) Script {
	seen := 0
	return func(Arrival) Answer {
		if seen++; seen <= n {
			return answer
		}
		return Answer{}
	}
}

// Verified reports whether at least n arrivals verified; for Wait.
func Verified(n int) func([]Arrival) bool {
	return func(arrivals []Arrival) bool {
		verified := 0
		for _, a := range arrivals {
			if a.Err == nil {
				verified++
			}
		}
		return verified >= n
	}
}

// Count reports whether at least n requests arrived; for Wait.
func Count(n int) func([]Arrival) bool {
	return func(arrivals []Arrival) bool { return len(arrivals) >= n }
}
